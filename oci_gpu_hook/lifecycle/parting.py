"""What goes with devices that are taken from a container, and what of its journal entry stays."""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import numbers, of_devices
from oci_gpu_hook.oci.container import read_config
from oci_gpu_hook.request import prefilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.edits import Numbers as Node
    from oci_gpu_hook.oci.container import Container


class Going(Record):
    """What is taken: devices by UUID, nodes with their paths, and the paths of views of the devices in /proc.

    Nodes and views are those that the container's other devices do not need. everything: whether all that was made for
    the container goes, as no device stays, and it asks for none itself.
    """

    uuids: tuple[str, ...]
    nodes: dict[Node, str]
    views: tuple[str, ...]
    everything: bool = False


def parts_of(uuids: tuple[str, ...], entry: Entry, container: Container, config: Config) -> Going:
    """Return what goes with devices. Raises HookError, also if what the others need is not known."""
    paths = dict(zip(entry.nodes, entry.node_paths, strict=True))
    staying = [uuid for uuid in entry.gpus if uuid not in uuids]
    own = tuple([f"{path}/" for path in entry.own_file_systems])
    seen = [path for path, *_ in entry.mounted if path.startswith(own)]
    if not staying:
        everything = not _asks(container, config)
        return Going(uuids=uuids, nodes=paths, views=tuple(seen), everything=everything)
    kinds = {vendors.kind_of(uuid) for uuid in entry.gpus}
    if len(kinds) > 1:
        what = f"container {quoted(entry.id)}"
        why = f"has devices of {' and '.join(sorted(kinds))}, which can only be detached together"
        raise InvalidInput(what, why, "detach all of them, or restart it with those that it is to have", "OGH1910")
    from oci_gpu_hook.lifecycle import asked

    request = asked.of_running(container, entry, config)
    vendor = vendors.of(request.kind)
    inventory = vendor.snapshot(request, config).inventory
    known = {device.uuid: device for device in vendor.devices(inventory, config)}

    if unknown := [uuid for uuid in staying if uuid not in known]:
        what = f"{vendor.TERMS.whole} {quoted(unknown[0])} of container {quoted(entry.id)}"
        why = "is no longer listed on this host, so its nodes cannot be distinguished from those to remove"
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


def _asks(container: Container, config: Config) -> bool:
    """Tell whether a container asks for devices itself. Raises HookError."""
    if not prefilter.may_ask(read_config(container.bundle), b"", config.swarm_resource):
        return False
    from oci_gpu_hook.request import parse

    return parse.parse(container, config) is not None


def gone(entry: Entry, going: Going) -> frozenset[str]:
    """Return the paths in the container that go with devices."""
    pipe: Collection[str] = ()
    if not has_part(entry, going.uuids):
        from oci_gpu_hook.devices.model import PIPE_OF_MPS

        pipe = {PIPE_OF_MPS}.intersection(entry.mounts)
    return frozenset((*going.nodes.values(), *going.views, *pipe))


def without(entry: Entry, going: Collection[str], paths: Collection[str]) -> Entry:
    """Return the entry without devices, and without what was at these paths."""
    kept = [(node, path) for node, path in zip(entry.nodes, entry.node_paths, strict=True) if path not in paths]
    return entry.replace(
        gpus=tuple(uuid for uuid in entry.gpus if uuid not in going),
        share=entry.share if has_part(entry, going) else (0, 0),
        changing=(),
        attached=tuple(uuid for uuid in entry.attached if uuid not in going),
        nodes=tuple(node for node, _ in kept),
        node_paths=tuple(path for _, path in kept),
        mounts=tuple(path for path in entry.mounts if path not in paths),
        mounted=tuple(mount for mount in entry.mounted if mount[0] not in paths),
        own_mounted=tuple(mount for mount in entry.own_mounted if mount[0] not in paths),
        changes=tuple(change for change in entry.changes if change[1] not in paths),
    )


def has_part(entry: Entry, going: Collection[str]) -> bool:
    """Tell whether a container still has a part of a device, so that it needs its MPS daemon, or never had one."""
    return not any(entry.share) or any(uuid not in going and uuid not in entry.attached for uuid in entry.gpus)
