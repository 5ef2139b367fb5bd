"""Takes GPUs from a running container: device access first, then nodes, leases, and what an attachment has brought.

Access comes first because nothing can be opened after it. Whoever has a device open by then is found, and unless those
processes are to be ended, access is given back and the container keeps what it has.
"""

from __future__ import annotations

import os

from oci_gpu_hook.allocation import attached as leases
from oci_gpu_hook.apply import transaction
from oci_gpu_hook.apply.device_access import cgroup
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import key
from oci_gpu_hook.apply.operations import own_places
from oci_gpu_hook.apply.process import Process, check_process
from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import ApplyError, InvalidInput, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import numbers, of_devices, shown
from oci_gpu_hook.lifecycle import apart_from_container, asked, busy, in_use, rootfs_part, verify
from oci_gpu_hook.lifecycle.attach import alone, entry_of
from oci_gpu_hook.lifecycle.in_use import User
from oci_gpu_hook.lifecycle.running import container_of
from oci_gpu_hook.request import parse
from oci_gpu_hook.request.model import DEFAULT_KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from oci_gpu_hook.apply.device_access.model import DeviceCgroup
    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.edits import Numbers as Node
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.oci.runtime_states import Running


class Going(Record):
    """What is taken: devices by UUID, nodes with their paths, and the paths of views of the devices in /proc.

    Nodes and views are those that the container's other devices do not need.
    """

    uuids: tuple[str, ...]
    nodes: dict[Node, str]
    views: tuple[str, ...]


class Detached(Record):
    """What was taken: the UUIDs of devices, and the processes that were ended for it, as (pid, name)."""

    uuids: tuple[str, ...]
    ended: tuple[tuple[int, str], ...]


def detach(
    running: Running, names: Sequence[str], config: Config, *, force: bool = False, grace: float = 10.0
) -> Detached:
    """Take devices from a running container; `names` are indices or UUIDs, () for all. On a refusal nothing is changed.

    force: end the processes that have one open; grace: seconds between the request to end and the kill. Raises
    HookError, AllocationError with their numbers where processes have one open.
    """
    check_process(running.pid)
    container = container_of(running)
    with alone(container, config) as lock:
        lock.demand()
        entry = entry_of(container, config)
        if entry is None or not entry.gpus:
            what = f"container {quoted(running.id)}"
            raise InvalidInput(
                what, "was given no GPUs by oci-gpu-hook", "see `oci-gpu leases` for those that were", "OGH1910"
            )
        going = _parts_of(_named(names, entry, config), entry, container, config)
        patience = grace if force else None
        found = apart_from_container.done(
            running.id,
            lambda: _tried(container, entry, going, config, patience),
            waiting=grace + in_use.KILL_SECONDS if force else 0.0,
        )
        if "busy" in found:
            users = [User(**each) for each in found["busy"]]
            raise busy.refusal(entry.id, users, going.uuids, config, forced=force)
        leases.give_back(running.id, running.pid, going.uuids, config)
        if not _has_part(entry, going.uuids):
            from oci_gpu_hook.apply.mps import ending, place

            ending.end(config.state_dir, place.name_of(running.pid))
    return Detached(uuids=going.uuids, ended=tuple((each["pid"], each["name"]) for each in found["ended"]))


def _named(names: Sequence[str], entry: Entry, config: Config) -> tuple[str, ...]:
    """Return the UUIDs of those of the container's devices that are named. Raises InvalidInput."""
    if not names:
        return entry.gpus
    vendor = vendors.of(DEFAULT_KIND)
    unknown = [name for name in names if name not in entry.gpus]
    uuids = [name for name in names if name in entry.gpus]
    if unknown and not {vendors.kind_of(uuid) for uuid in entry.gpus}.intersection(vendors.KINDS):
        what, why = f"device {quoted(unknown[0])}", f"is none that container {quoted(entry.id)} has"
        raise InvalidInput(what, why, f"name it as it is leased: {', '.join(entry.gpus)}", "OGH1910")
    if unknown:
        request = asked.with_devices(None, (), ("utility",))
        found = vendor.devices(vendor.snapshot(request, config).inventory, config)
        of_host = [device.replace(fault="") for device in found]  # what has failed can be taken all the same
        uuids += [device.uuid for device in vendor.resolve(unknown, of_host)]
    for uuid in uuids:
        if uuid not in entry.gpus:
            what = f"container {quoted(entry.id)}"
            raise InvalidInput(what, f"does not have GPU {uuid}", f"it has {', '.join(entry.gpus)}", "OGH1910")
    return tuple(dict.fromkeys(uuids))


def _parts_of(uuids: tuple[str, ...], entry: Entry, container: Container, config: Config) -> Going:
    """Return what goes with devices."""
    paths = dict(zip(entry.nodes, entry.node_paths, strict=True))
    staying = [uuid for uuid in entry.gpus if uuid not in uuids]
    own = tuple([f"{path}/" for path in entry.own_file_systems])
    seen = [path for path, *_ in entry.mounted if path.startswith(own)]
    if not staying:
        return Going(uuids=uuids, nodes=paths, views=tuple(seen))
    kinds = {vendors.kind_of(uuid) for uuid in entry.gpus}
    if len(kinds) > 1:
        what = f"container {quoted(entry.id)}"
        why = f"has devices of {' and '.join(sorted(kinds))}, of which some cannot be taken and others left"
        raise InvalidInput(what, why, "detach all of them, or restart it with those that it is to have", "OGH1910")
    request = asked.of_running(container, entry, config)
    vendor = vendors.of(request.kind)
    inventory = vendor.snapshot(request, config).inventory
    known = {device.uuid: device for device in vendor.devices(inventory, config)}

    if unknown := [uuid for uuid in staying if uuid not in known]:
        what = f"GPU {quoted(unknown[0])} of container {quoted(entry.id)}"
        why = "is no longer listed by the driver, so its nodes cannot be told from those that are to go"
        raise InvalidInput(what, why, "detach all of them", "OGH1910")

    def of(some: Collection[str]) -> tuple[set[Node], set[str]]:
        if not known.keys() >= {*some}:
            return {*paths}, {*seen}  # the driver has lost one: all that the others do not need was its
        devices = [known[uuid] for uuid in some]
        edits = vendor.device_edits(asked.with_devices(request, (*some,), ()), inventory, devices)
        return {numbers(node) for node in of_devices(edits.device_nodes)}, {*vendor.views(devices)}

    (nodes, views), (needed, shown) = of(uuids), of(staying)
    return Going(
        uuids=uuids,
        nodes={node: path for node, path in paths.items() if node in nodes - needed},
        views=tuple([path for path in seen if path in views - shown]),
    )


def _tried(container: Container, entry: Entry, going: Going, config: Config, grace: float | None) -> dict[str, object]:
    """Return the processes that were `ended`, or those by which the devices are `busy`. Raises HookError, OSError."""
    try:
        return {"ended": [user.__dict__ for user in _detach(container, entry, going, config, grace)]}
    except busy.Busy as found:
        return {"busy": [user.__dict__ for user in found.users]}


def _detach(container: Container, entry: Entry, going: Going, config: Config, grace: float | None) -> tuple[User, ...]:
    """Take the nodes, and what else goes; return the processes that were ended. Raises Busy, HookError, OSError.

    grace: seconds between the request to end and the kill, None to end no process.
    """
    os.umask(0)
    with (
        Process(container.pid) as process,
        transaction.open_rootfs(container, process) as rootfs,
        journal.Lock(config, entry.rootfs_identity) as lock,
        cgroup.find(container.pid, container.cgroups_path) as devices,
    ):
        lock.demand()
        verify.check_alive(entry)
        verify.check_root(entry, rootfs)
        grant = cgroup.refuse(devices, [*going.nodes], container.device_rules)
        try:
            _check_refused(devices, going.nodes, entry)
            ended = _let_go(container, going.nodes, grace)
        except BaseException:
            grant.undo()
            raise
        grant.close()
        staying = tuple(uuid for uuid in entry.gpus if uuid not in going.uuids)
        kept = [node for node in entry.nodes if node not in going.nodes]
        _tell_systemd(entry.unit, kept, going.nodes)
        _refuse_again(devices, going, container)
        everything = not staying and parse.parse(container, config) is None
        gone = {*going.nodes.values(), *going.views}
        if not _has_part(entry, going.uuids):
            gone |= {verify.PIPE} & {*entry.mounts}
        rootfs_part.take(entry, gone, process, rootfs, everything=everything)
        if everything:
            journal.forget(config, key(entry))
        else:
            own_places.remove(going.views, entry.own_file_systems, process, rootfs)
            journal.write(config, _without(entry, going.uuids, gone))
    return ended


def _without(entry: Entry, going: Collection[str], gone: Collection[str]) -> Entry:
    """Return the entry without devices, and without what was at these paths."""
    kept = [(node, path) for node, path in zip(entry.nodes, entry.node_paths, strict=True) if path not in gone]
    return entry.replace(
        gpus=tuple(uuid for uuid in entry.gpus if uuid not in going),
        share=entry.share if _has_part(entry, going) else (0, 0),
        attached=tuple(uuid for uuid in entry.attached if uuid not in going),
        nodes=tuple(node for node, _ in kept),
        node_paths=tuple(path for _, path in kept),
        mounts=tuple(path for path in entry.mounts if path not in gone),
        mounted=tuple(mount for mount in entry.mounted if mount[0] not in gone),
        changes=tuple(change for change in entry.changes if change[1] not in gone),
    )


def _has_part(entry: Entry, going: Collection[str]) -> bool:
    """Tell whether a container still has a part of a device, so that it needs its MPS daemon, or never had one."""
    return not any(entry.share) or any(uuid not in going and uuid not in entry.attached for uuid in entry.gpus)


def _check_refused(devices: DeviceCgroup, nodes: dict[Node, str], entry: Entry) -> None:
    """Raise ApplyError for a container that can open a node by a rule that is not this project's to take."""
    for node in _allowed(devices, nodes):
        what = f"GPUs of container {quoted(entry.id)}"
        where = f"{nodes[node]} ({shown(node)})"
        why = f"its own device rules let it open {where}, as those of a privileged container do"
        raise ApplyError(what, why, "restart it with other device rules", "OGH1910")


def _allowed(devices: DeviceCgroup, nodes: Collection[Node]) -> list[Node]:
    """Return the nodes that the container may open, or for which that is not known."""
    return [node for node in nodes if cgroup.allows(devices, *node) is not False]


def _let_go(container: Container, nodes: Collection[Node], grace: float | None) -> tuple[User, ...]:
    """Return the processes that were ended because they had a node open. Raises Busy for those that have it still."""
    found = in_use.users(container.pid, nodes)
    if found and grace is not None:
        in_use.end(found, grace)
        if left := in_use.users(container.pid, nodes):
            raise busy.Busy(left)
    elif found:
        raise busy.Busy(found)
    return found


def _refuse_again(devices: DeviceCgroup, going: Going, container: Container) -> None:
    """Refuse the nodes once more if systemd, on cgroup v1, has written its own rules since."""
    if _allowed(devices, going.nodes):
        cgroup.refuse(devices, [*going.nodes], container.device_rules).close()


def _tell_systemd(unit: str, nodes: Sequence[Node], gone: Collection[Node]) -> None:
    """Have systemd permit the unit these nodes, beside what is not this project's, now and after a reload.

    gone: nodes that it must not permit any more, although it was told so once, at the start or by the runtime.
    """
    if not unit:
        return
    from oci_gpu_hook.apply.systemd import drop_in, private_bus
    from oci_gpu_hook.apply.systemd.units import device_path

    if nodes:
        drop_in.drop_in(unit, nodes)
    else:
        drop_in.remove(unit)
    if unit.endswith(".scope"):
        ours = {device_path(node): "rw" for node in nodes}
        try:
            taken = {device_path(node) for node in gone}
            others = {path: access for path, access in drop_in.others(unit).items() if path not in taken}
            private_bus.allow_only(unit, {**others, **ours})
        except ApplyError as error:  # access is taken already, and the drop-in holds from the next reload on
            log.warning("warning", text=str(error))
