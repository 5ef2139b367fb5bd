"""What the names of a kind stand for: devices that can be counted and leased. Names of one device are one device.

Which they are, their nodes' numbers tell: a GPU by index and by UUID has the same nodes. A name whose nodes are those
of several others together, such as `all`, is no device of its own; one whose nodes are some of another's is a part of
that.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.errors import reason
from oci_gpu_hook.devices.cdi.model import Described, Native
from oci_gpu_hook.devices.edits import UNSAID
from oci_gpu_hook.devices.model import Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from oci_gpu_hook.devices.cdi.model import Inventory
    from oci_gpu_hook.devices.edits import DeviceNode

    # What tells one device from another: numbers of nodes, names of network interfaces; without either its own name.
    Identity: TypeAlias = frozenset[tuple[str, object, object]]


def of(inventory: Inventory, exclude: Collection[str] = ()) -> tuple[Device, ...]:
    """Return the devices of a kind in the order of their files; those made of several others come last.

    exclude: qualified names of those that counts pass over.
    """
    by_identity: dict[Identity, list[Described]] = {}
    for described in inventory.devices:
        by_identity.setdefault(_identity(described), []).append(described)
    made_of = {identity: _covered(identity, by_identity) for identity in by_identity}
    single = [identity for identity, covered in made_of.items() if not covered]
    uuids = {identity: _uuid(inventory.kind, by_identity[identity]) for identity in by_identity}
    wholes = {identity: _whole(identity, single) for identity in single}
    numbers = _numbered(single, wholes)
    devices = []
    for identity in single:
        whole = wholes[identity]
        devices.append(
            _device(
                inventory.kind,
                by_identity[identity],
                uuid=uuids[identity],
                position=numbers[identity],
                whole=uuids[whole] if whole is not None else "",
                parts=tuple(uuids[other] for other in single if wholes[other] == identity),
                exclude=exclude,
            )
        )
    devices.sort(key=lambda device: device.position)
    for identity, covered in made_of.items():
        if covered:
            names = tuple(each.name for each in by_identity[identity])
            covers = tuple(uuids[each] for each in covered)
            native = Native(names=names, described=tuple(by_identity[identity]), covers=covers)
            devices.append(_several(inventory.kind, uuids[identity], len(devices), native))
    return tuple(devices)


def native(device: Device) -> Native:
    """Return what the room knows the device by."""
    return device.native  # type: ignore[return-value]  # `of` has put it there


def missing(described: Described) -> str:
    """Say which node of the host a device lacks, "" for none: without its numbers it cannot be given."""
    for node in described.edits.device_nodes:
        path = node.host_path or node.path
        if not _is_complete(node) and (why := _why_unusable(path)):
            return why
    return ""


def _identity(described: Described) -> Identity:
    edits = described.edits
    found = {number for node in edits.device_nodes if (number := _numbers(node))}
    found |= {("net", net.host_interface_name, "") for net in edits.net_devices}
    return frozenset(found or {("name", described.name, "")})


def _numbers(node: DeviceNode) -> tuple[str, object, object] | None:
    """Return what tells a node from others: its numbers, by its author's word or the host's; else its path."""
    if node.type == "p":
        return "p", node.host_path or node.path, ""
    if _is_complete(node):
        return "b" if node.type == "b" else "c", node.major, node.minor
    path = node.host_path or node.path
    try:
        status = os.lstat(path)
    except OSError:
        return "path", path, ""
    kind = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}.get(stat.S_IFMT(status.st_mode))
    return (kind, os.major(status.st_rdev), os.minor(status.st_rdev)) if kind else ("path", path, "")


def _is_complete(node: DeviceNode) -> bool:
    return bool(node.type) and (node.type == "p" or UNSAID not in (node.major, node.minor))


def _why_unusable(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        return f"{path}: {reason(error)}"
    return "" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISFIFO(mode) else f"{path} is no device node"


def _covered(identity: Identity, others: Iterable[Identity]) -> list[Identity]:
    """Return those whose nodes are together the nodes of this one, [] where it is a device of its own."""
    within = [other for other in others if other < identity]
    # Of what is within what is within, as the parts of each of several GPUs, the larger ones count.
    largest = [other for other in within if not any(other < another for another in within)]
    return largest if len(largest) > 1 and frozenset().union(*largest) == identity else []


def _whole(identity: Identity, single: Iterable[Identity]) -> Identity | None:
    """Return the device that a device is a part of: the largest whose nodes it has some of."""
    return max((other for other in single if identity < other), key=len, default=None)


def _numbered(
    single: Sequence[Identity], wholes: Mapping[Identity, Identity | None]
) -> dict[Identity, tuple[int, int]]:
    """Return the place of each device: its number among the whole ones, and among the parts of that, -1 for none."""
    found: dict[Identity, tuple[int, int]] = {}
    index = 0
    for identity in single:
        if wholes[identity] is None:
            found[identity] = (index, -1)
            index += 1
    for part, identity in enumerate(single):
        whole = wholes[identity]
        if whole is not None:
            found[identity] = (found[whole][0], part)
    return found


def _uuid(kind: str, described: Sequence[Described]) -> str:
    """Return the qualified name that a device is on record by: one that says more than a number, where it has one."""
    names = [each.name for each in described]
    told = [name for name in names if not name.lower().removeprefix("gpu").isdecimal()]
    return f"{kind}={max(told or names[:1], key=len)}"


def _device(  # noqa: PLR0913
    kind: str,
    described: Sequence[Described],
    *,
    uuid: str,
    position: tuple[int, int],
    whole: str,
    parts: tuple[str, ...],
    exclude: Collection[str],
) -> Device:
    names = tuple(each.name for each in described)
    index, part = position
    return Device(
        kind=kind,
        name=names[0],
        uuid=uuid,
        index=index,
        part=part,
        label=f"{kind}={names[0]}",
        whole=whole,
        parts=parts,
        countable=not whole,
        fault=missing(described[0]),
        excluded=any(f"{kind}={name}" in exclude for name in names),
        native=Native(names=names, described=tuple(described)),
    )


def _several(kind: str, uuid: str, index: int, native: Native) -> Device:
    name = native.names[0]
    return Device(kind=kind, name=name, uuid=uuid, index=index, label=f"{kind}={name}", countable=False, native=native)
