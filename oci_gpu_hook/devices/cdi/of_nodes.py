"""Which devices a container can use, by the nodes that somebody else has put into it. For such containers only.

No specification says which nodes are a device's own, and which all of its kind have. A node that two devices have, such
as /dev/kfd, says nothing about either.
"""

from __future__ import annotations

from oci_gpu_hook.devices.cdi.devices import native, numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import TypeAlias

    from oci_gpu_hook.devices.model import Device

    # What distinguishes a node from others → its path on the host.
    Nodes: TypeAlias = dict[tuple[str, object, object], str]


def used(
    devices: Sequence[Device], numbers: Container[tuple[int, int]], host_paths: Container[str]
) -> tuple[Device, ...]:
    """Return the devices that have their own nodes with these numbers, or among these nodes of the host.

    A device of which only parts are there counts as those parts.
    """
    single = [device for device in devices if not native(device).covers]
    nodes = {device.uuid: _nodes(device) for device in single}
    own = _own([device for device in single if not device.whole], nodes)
    found: list[Device] = []
    for device in single:
        if device.whole or not _are_there(own[device.uuid], numbers, host_paths):
            continue
        parts = [part for part in single if part.uuid in device.parts]
        own_of_parts = _own(parts, nodes)
        there = [part for part in parts if _are_there(own_of_parts[part.uuid], numbers, host_paths)]
        found += there if len(there) < len(parts) else [device]
    return tuple(found)


def _nodes(device: Device) -> Nodes:
    found: Nodes = {}
    for described in native(device).described:
        for node in described.edits.device_nodes:
            if told := numbers_of(node):
                found[told] = node.host_path or node.path
    return found


def _own(devices: Sequence[Device], nodes: dict[str, Nodes]) -> dict[str, Nodes]:
    """Return the nodes of each device that no other of them has."""
    times: dict[object, int] = {}
    for device in devices:
        for told in nodes[device.uuid]:
            times[told] = times.get(told, 0) + 1
    return {
        device.uuid: {told: path for told, path in nodes[device.uuid].items() if times[told] == 1} for device in devices
    }


def _are_there(nodes: Nodes, numbers: Container[tuple[int, int]], host_paths: Container[str]) -> bool:
    """Tell whether any of the nodes is."""
    return any(
        (kind == "c" and (major, minor) in numbers) or path in host_paths
        for (kind, major, minor), path in nodes.items()
    )
