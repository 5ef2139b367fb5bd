"""Gives a running container GPUs that it does not have: lease, journal, nodes, libraries, ld cache, device access.

The container runs meanwhile and may be hostile. It is changed by the code that starts containers, on the same
descriptors and under the same rules, all or nothing. A container that was started with GPUs has the driver's files, and
gets nodes and access; to one that was not, an entry in the journal is written as at a start.
"""

from __future__ import annotations

import os

from oci_gpu_hook.allocation import attached as leases
from oci_gpu_hook.allocation.model import Busy
from oci_gpu_hook.apply import transaction
from oci_gpu_hook.apply.process import Process, Site, check_process, open_rootfs
from oci_gpu_hook.base.errors import InvalidInput, quoted, reason
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import ContainerEdits, numbers, of_devices
from oci_gpu_hook.lifecycle import apart_from_container, identity, settling
from oci_gpu_hook.lifecycle.admission import Admission, freed
from oci_gpu_hook.lifecycle.interruption import Interruption
from oci_gpu_hook.lifecycle.journaling import Starting
from oci_gpu_hook.lifecycle.running import container_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.oci.runtime_states import Running
    from oci_gpu_hook.plan.plan import Plan
    from oci_gpu_hook.request.model import Request


class Attached(Record):
    """What an attachment has brought: UUIDs of devices, and warnings."""

    uuids: tuple[str, ...]
    warnings: tuple[str, ...]


def attach(running: Running, request: Request, config: Config) -> Attached:
    """Give a running container the devices of a request in addition to what it has. On any error nothing is changed.

    request: source `attached`. Raises HookError.
    """
    check_process(running.pid)
    container = container_of(running)
    vendor = vendors.of(request.kind)
    snapshot = vendor.snapshot(request, config)
    of_host = vendor.devices(snapshot.inventory, config)
    known = {device.uuid: device for device in of_host}
    with Interruption(running.id) as interruption, settling.alone(running.pid, config):
        settling.settle(running.id, running.pid, config)
        interruption.check()
        granted = _granted(request, of_host, container, config)
        uuids = tuple(device.uuid for device in granted)
        try:
            work = lambda: list(_attach(container, request, granted, known, config))  # noqa: E731
            said = apart_from_container.done(running.id, work, interruption)
            interruption.check()
        except BaseException:
            settling.withdraw(running.id, running.pid, uuids, config)
            raise
    return Attached(uuids=uuids, warnings=tuple(said))


def _granted(request: Request, of_host: Sequence[Device], container: Container, config: Config) -> tuple[Device, ...]:
    """Return the devices that are granted. What killed attachments hold is given back before a refusal."""
    try:
        return leases.grant(request, of_host, container, config)
    except Busy:
        if not freed(config):
            raise
    return leases.grant(request, of_host, container, config)


def _attach(
    container: Container, request: Request, granted: Sequence[Device], known: dict[str, Device], config: Config
) -> tuple[str, ...]:
    """Change the container; return warnings. Raises HookError, OSError."""
    os.umask(0)  # modes are set when files are made: see Directory.make_node
    with Process(container.pid) as process:
        entry = settling.entry_of(container.id, container.pid, config)
        uuids = tuple(device.uuid for device in granted)
        devices = [known[uuid] for uuid in entry.gpus if uuid in known] if entry else []
        if entry:
            request = _whole_request(container, entry, request, uuids, config)
        snapshot = vendors.of(request.kind).snapshot(request, config)
        admission = Admission(
            container=container, request=request, config=config, snapshot=snapshot, devices=(*devices, *granted)
        )
        with open_rootfs(container, process) as rootfs:
            site = Site(container=container, process=process, rootfs=rootfs, config=config)
            made = admission.plan(rootfs)
            if not entry:
                _check_root(container, rootfs)
                nodes = [numbers(node) for node in of_devices(made.edits.device_nodes)]
                starting = Starting(site, uuids)
                said = transaction.carry_out(made, site, nodes, starting, lambda: admission.confirm(made))
            else:
                identity.check_root(entry, rootfs)
                with settling.on_rootfs(entry, config):
                    added = _missing_part(made, entry, vendors.of(request.kind).views(granted))
                    said = _extend(entry, added, site, uuids)
        settling.commit(container.id, container.pid, config)
        return said


def _whole_request(
    container: Container, entry: Entry, request: Request, uuids: Sequence[str], config: Config
) -> Request:
    """Return a request for what a container has and what it gets. Raises InvalidInput if it cannot get more."""
    from oci_gpu_hook.lifecycle import asked
    from oci_gpu_hook.request import parse

    own = parse.parse(container, config)
    if own and own.is_share:
        why = "was started with parts of GPUs, and its programs are served those and no others"
        raise InvalidInput(f"container {quoted(container.id)}", why, "start another container with the GPUs", "OGH1908")
    capabilities = entry.capabilities or (own.driver_capabilities if own else request.driver_capabilities)
    _check_capabilities(request, capabilities, container)
    return asked.with_devices(own, (*entry.gpus, *uuids), capabilities)


def _extend(entry: Entry, added: Plan, site: Site, uuids: Sequence[str]) -> tuple[str, ...]:
    """Give a container that has GPUs the nodes and views of further ones; return warnings. Raises HookError."""
    from oci_gpu_hook.apply.operations import own_places
    from oci_gpu_hook.lifecycle.mending import Mending

    mounts = added.edits.mounts
    mending = Mending(entry, added, site, uuids)
    try:
        own_places.make(mounts, entry, site.process, site.rootfs)
        return transaction.carry_out(added, site, mending.nodes, mending, lambda: identity.check_alive(entry))
    except BaseException:
        own_places.remove([mount.container_path for mount in mounts], entry, site.process, site.rootfs)
        raise


def _check_root(container: Container, rootfs: Rootfs) -> None:
    """Raise InvalidInput unless the root of the container's first process is what its runtime has given it.

    A process may change its root to a volume of the host; seen from there, the volume would be the container's rootfs.
    """
    found = os.fstat(rootfs.fd)
    try:
        given = os.stat(container.rootfs)
    except OSError as error:
        why = f"cannot be looked at: {reason(error)}"
        raise InvalidInput(
            f"root directory {quoted(container.rootfs)}", why, "run this as root, on the host", "OGH1903"
        ) from None
    if (found.st_dev, found.st_ino) != (given.st_dev, given.st_ino):
        what = f"first process of container {quoted(container.id)}"
        raise InvalidInput(
            what, "has another root directory than the one it was started with", "restart the container", "OGH1908"
        )


def _check_capabilities(request: Request, capabilities: Sequence[str], container: Container) -> None:
    more = sorted({*request.driver_capabilities}.difference(capabilities))
    if more:
        what = f"driver capabilities {', '.join(more)} for container {quoted(container.id)}"
        why = "it has the driver's files already, for other capabilities, and cannot be given more while it runs"
        raise InvalidInput(
            what, why, f"leave out --capabilities, or restart the container with {','.join(more)}", "OGH1908"
        )


def _missing_part(plan: Plan, entry: Entry, views: Sequence[str]) -> Plan:
    """Return the part of a plan that the container does not have: nodes and views of further devices."""
    nodes = [node for node in plan.edits.device_nodes if node.path not in entry.node_paths]
    own = tuple([f"{path}/" for path in entry.own_file_systems])
    wanted = {path for path in views if path not in entry.mounts and path.startswith(own)}
    mounts = [mount for mount in plan.edits.mounts if mount.container_path in wanted]
    edits = ContainerEdits(device_nodes=tuple(nodes), mounts=tuple(mounts))
    return plan.replace(edits=edits, links=(), files=(), ld_cache=(), late=())
