"""Putting back what a running container has lost of what it was given, and nothing more than it was given.

The container runs meanwhile and may be hostile: what is done to it is done by the code that starts containers, on the
same descriptors and under the same rules. What it may get is bounded twice: by its journal entry, which says what it
was given, and by the plan that its bundle makes today.
"""

from __future__ import annotations

import os

from oci_gpu_hook.allocation.model import Granted
from oci_gpu_hook.apply import cleanup, status, transaction
from oci_gpu_hook.apply import ld_cache as cache
from oci_gpu_hook.apply.device_access import cgroup
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.changes import FILE, change
from oci_gpu_hook.apply.materialize import Placing
from oci_gpu_hook.apply.preflight import Survey
from oci_gpu_hook.apply.process import Process
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.apply.systemd import drop_in
from oci_gpu_hook.base.errors import DriverError, InvalidInput, quoted
from oci_gpu_hook.devices.edits import ContainerEdits
from oci_gpu_hook.devices.nvidia import for_request
from oci_gpu_hook.lifecycle import verify
from oci_gpu_hook.oci import container as containers
from oci_gpu_hook.plan import image, plan
from oci_gpu_hook.request import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_gpu_hook.apply.journal.changes import Change
    from oci_gpu_hook.apply.journal.journal import Entry
    from oci_gpu_hook.apply.mounts import Attachment
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.apply.status import Condition
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.lifecycle.verify import Finding
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.plan.plan import Plan


def repair(entry: Entry, config: Config) -> tuple[Finding, ...]:
    """Put back what the container of the entry has lost; return what that was. On any error nothing is changed.

    Raises HookError, also where only a restart helps: then the driver or its nodes are not those it was given.
    """
    os.umask(0)  # modes are set when files are made: see Directory.make_node
    containers.check_process(entry.pid)
    container = _container(entry)
    request = parse.parse(container, config)
    if request is None:
        why = "its config.json asks for none now, or the configuration lets it have none"
        raise InvalidInput(f"container {quoted(entry.id)} was given GPUs", why, "restart the container")
    inventory = for_request.hold(request, config).inventory
    granted = _granted(entry, inventory)
    with journal.Lock(config), Process(entry.pid) as process:
        verify.check_alive(entry)
        with transaction.open_rootfs(container, process) as rootfs:
            found = status.look(entry, process, rootfs)
            lost = tuple(verify.judge(entry, found, verify.look_at_host(entry, config)))
            for finding in lost:
                if not finding.repairable:
                    raise DriverError(finding.what, finding.why, finding.remedy)
            if lost:
                whole = plan.make(request, inventory, granted, image.look(rootfs, container, config), config)
                _Repair(entry, container, process, rootfs).put_back(_what_is_lost(entry, found, whole), found, config)
    return lost


def _container(entry: Entry) -> Container:
    state = containers.State(id=entry.id, pid=entry.pid, bundle=entry.bundle, root=entry.rootfs, annotations={})
    return containers.parse_config(containers.read_config(entry.bundle), state)


def _granted(entry: Entry, inventory: Inventory) -> tuple[Granted, ...]:
    """Return the devices that the entry names. Raises DriverError where the host has one no more."""
    whole = [Granted(gpu=gpu) for gpu in inventory.gpus]
    parts = [Granted(gpu=gpu, mig=mig) for gpu in inventory.gpus for mig in gpu.mig_devices]
    of_host = {device.uuid: device for device in (*whole, *parts)}
    for uuid in entry.gpus:
        if uuid not in of_host:
            raise DriverError(f"GPU {uuid}", "the host has it no more", "restart the container")
    return tuple(of_host[uuid] for uuid in entry.gpus)


def _what_is_lost(entry: Entry, found: Condition, whole: Plan) -> Plan:
    """Return the part of a plan that was given and is not there any more."""
    given = dict(zip(entry.node_paths, entry.nodes, strict=True))
    unmounted = frozenset((*found.unmounted, *found.stale))
    nodes = tuple(
        node
        for node in whole.edits.device_nodes
        if given.get(node.path) == (node.major, node.minor) != found.nodes[node.path]
    )
    mounts = tuple(mount for mount in whole.edits.mounts if mount.container_path in unmounted)
    listed = frozenset(entry.ld_cache) if found.uncached else frozenset()
    return whole.replace(
        edits=ContainerEdits(device_nodes=nodes, mounts=mounts),
        links=tuple(link for link in whole.links if link.path in found.links),
        ld_cache=tuple(library for library in whole.ld_cache if library.path in listed),
    )


class _Repair:
    """One container, held open while it is mended."""

    def __init__(self, entry: Entry, container: Container, process: Process, rootfs: Rootfs) -> None:
        self._entry = entry
        self._container = container
        self._process = process
        self._rootfs = rootfs

    def put_back(self, made: Plan, found: Condition, config: Config) -> None:
        """Do what `made` says, and give the container its rights on all of its nodes. All or nothing."""
        entry = self._entry
        self._unmount(found.stale)
        ld_cache, exchangeable = cache.contents(made)
        exchanged = exchangeable and cache.is_private(self._rootfs, read_only=self._container.root_readonly)
        cached = found.uncached if exchanged else ()
        devices = cgroup.find(entry.pid, entry.cgroups_path)
        directories = Directories(self._rootfs)
        survey = Survey(self._rootfs, directories)
        user_namespace = "user" in self._container.namespaces
        placing = Placing(self._rootfs, directories, survey.absent, user_namespace=user_namespace)
        attached: list[Attachment] = []
        changes: tuple[Change, ...] = ()
        try:
            changes = survey.of(made, (cache.PATH,) if ld_cache and not exchanged else ())
            if exchanged:
                changes += (change(FILE, cache.NEW_PATH),)
            verify.check_alive(entry)  # so that the cgroup found is its own
            journal.write(config, _extended(entry, changes, cached, found.unit))
            placing.place(made)
            if ld_cache and exchanged:
                cache.exchange(self._rootfs, ld_cache)
            elif ld_cache:
                onto = placing.mountpoint(cache.PATH, directory=False)
                path = journal.ld_cache_path(config, entry.id)
                placing.attachments.append(cache.prepare_mount(onto, ld_cache, path))
            transaction.attach_all(placing.attachments, attached, self._process, self._rootfs)
            journal.drop(journal.ld_cache_path(config, entry.id))
            if found.unit:
                drop_in.drop_in(found.unit, entry.nodes)
            cgroup.allow(devices, entry.nodes, self._container.device_rules).close()
        except BaseException:
            undone = entry.replace(changes=changes, cached=cached)
            transaction.detach_all(attached, self._process)
            cleanup.clean(self._rootfs, undone)
            journal.write(config, entry)
            raise
        finally:
            placing.close()
            directories.close()
            devices.close()

    def _unmount(self, paths: Iterable[str]) -> None:
        """Take away mounts of what the host has deleted: nothing can be mounted onto them."""
        for path in paths:
            fd = self._rootfs.resolve(path)
            try:
                self._process.enter()
                try:
                    self._process.unmount(fd)
                finally:
                    self._process.leave()
            finally:
                os.close(fd)


def _extended(entry: Entry, changes: tuple[Change, ...], cached: tuple[str, ...], unit: str) -> Entry:
    """Return the entry with what is added to the container, once each."""
    return entry.replace(
        changes=tuple(dict.fromkeys((*entry.changes, *changes))),
        cached=tuple(dict.fromkeys((*entry.cached, *cached))),
        unit=unit or entry.unit,
    )
