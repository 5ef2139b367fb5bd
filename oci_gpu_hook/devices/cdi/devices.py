"""What the names of a kind stand for: devices that can be counted and leased. Names of one device are one device.

Which they are, their nodes' numbers tell: a GPU by index and by UUID has the same nodes. A name whose nodes are those
of several others together, such as `all`, is not a separate device; one whose nodes are some of another's is a part of
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
    from collections.abc import Collection, Mapping, Sequence
    from typing import TypeAlias

    from oci_gpu_hook.devices.cdi.model import Inventory
    from oci_gpu_hook.devices.edits import DeviceNode

    # What distinguishes devices: numbers of nodes, names of network interfaces; without either their own names.
    Identity: TypeAlias = frozenset[tuple[str, object, object]]


def of(inventory: Inventory, exclude: Collection[str] = (), reserve: int = 0) -> tuple[Device, ...]:
    """Return the devices of a kind in the order of their files; those made of several others come last.

    exclude: qualified names of those that counts pass over. reserve: bytes of each device that shares leave free.
    """
    by_identity: dict[Identity, list[Described]] = {}
    for described in inventory.devices:
        by_identity.setdefault(_identity(described), []).append(described)
    sets = _Sets(by_identity)
    made_of = {identity: sets.covered(identity) for identity in by_identity}
    single = [identity for identity, covered in made_of.items() if not covered]
    uuids = {identity: _uuid(inventory.kind, by_identity[identity]) for identity in by_identity}
    among = _Sets(single)
    wholes = {identity: max(among.containing(identity), key=len, default=None) for identity in single}
    parts: dict[Identity, list[str]] = {}
    for identity, whole in wholes.items():
        if whole is not None:
            parts.setdefault(whole, []).append(uuids[identity])
    numbers = _numbered(single, wholes)
    index_of = {each.name: numbers[identity][0] for identity in single for each in by_identity[identity]}
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
                parts=tuple(parts.get(identity, ())),
                index_of=index_of,
                exclude=exclude,
                reserve=reserve,
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
    found = {number for node in edits.device_nodes if (number := numbers_of(node))}
    found |= {("net", net.host_interface_name, "") for net in edits.net_devices}
    return frozenset(found or {("name", described.name, "")})


def numbers_of(node: DeviceNode) -> tuple[str, object, object] | None:
    """Return what distinguishes a node from others: its numbers, as the file or the host says; else its path."""
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
    return "" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISFIFO(mode) else f"{path} is not a device node"


class _Sets:
    """Which of many identities contain which others, without comparing each with each."""

    def __init__(self, identities: Collection[Identity]) -> None:
        self._order = {identity: number for number, identity in enumerate(identities)}
        self._holders: dict[object, list[Identity]] = {}
        for identity in identities:
            for element in identity:
                self._holders.setdefault(element, []).append(identity)
        self._by_rarest: dict[object, list[Identity]] = {}
        for identity in identities:
            self._by_rarest.setdefault(self._rarest(identity), []).append(identity)

    def covered(self, identity: Identity) -> list[Identity]:
        """Return those whose nodes together are the nodes of this one, [] for a separate device."""
        within = [each for element in identity for each in self._by_rarest.get(element, ()) if each < identity]
        # Of nested ones, such as the parts of each of several GPUs, the larger ones count.
        within.sort(key=self._order.__getitem__)
        known = set(within)
        largest = [each for each in within if not any(other in known for other in self.containing(each))]
        return largest if len(largest) > 1 and frozenset().union(*largest) == identity else []

    def containing(self, identity: Identity) -> list[Identity]:
        """Return those that have all nodes of this one, and others."""
        return [each for each in self._holders[self._rarest(identity)] if identity < each]

    def _rarest(self, identity: Identity) -> object:
        return min(identity, key=lambda element: len(self._holders[element]))


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
    """Return the qualified name that a device is recorded by: one that says more than a number, where it has one."""
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
    index_of: Mapping[str, int],
    exclude: Collection[str],
    reserve: int,
) -> Device:
    names = tuple(each.name for each in described)
    first = described[0]
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
        undivided=f"{kind}={first.undivided}" if first.undivided else "",
        memory=first.memory,
        shareable=max(first.memory - reserve, 0),
        countable=not whole,
        fault=missing(first),
        excluded=any(f"{kind}={name}" in exclude for name in names),
        numa_node=first.numa_node,
        pcie_switch=first.pcie_switch,
        peer_links=tuple((index_of[name], links) for name, links in first.peers if name in index_of),
        native=Native(names=names, described=tuple(described)),
    )


def _several(kind: str, uuid: str, index: int, native: Native) -> Device:
    name = native.names[0]
    return Device(kind=kind, name=name, uuid=uuid, index=index, label=f"{kind}={name}", countable=False, native=native)
