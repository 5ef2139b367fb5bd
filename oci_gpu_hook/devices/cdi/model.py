"""Devices that CDI specification files describe, as a request for one kind needs them. Pure values."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.devices.edits import ContainerEdits, Symlink

NO_DRIVER: Final = ""


class Described(Record):
    """A device of a specification file. file: its place among the inventory's `files`. edits: what it brings.

    What no specification says, and the kernel does (devices.kernel): memory, numa_node, pcie_switch as in Device;
    peers: names of devices that it has links to, and how many; product: what it is called; links: names of its nodes
    that udev makes; undivided: the name of the whole GPU, as in Device.
    """

    name: str
    file: int
    edits: ContainerEdits
    memory: int = 0
    numa_node: int | None = None
    pcie_switch: str = ""
    peers: tuple[tuple[str, int], ...] = ()
    product: str = ""
    links: tuple[Symlink, ...] = ()
    undivided: str = ""


class Inventory(Record):
    """What the specification files have of one kind.

    by_kernel: whether the kernel describes them, and not a specification; `files` then has the kernel's files.
    unseen: why the kernel describes none, where it could.
    files: path and the edits that each device of the file brings once. conflicts: names that several files of one
    directory have, with those files. broken: what is wrong with files that could not be used. kinds: all there are.
    """

    kind: str
    directories: tuple[str, ...]
    files: tuple[tuple[str, ContainerEdits], ...] = ()
    devices: tuple[Described, ...] = ()
    conflicts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    broken: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    driver_version: str = NO_DRIVER
    by_kernel: bool = False
    unseen: str = ""


class Snapshot(Record):
    """An inventory, and the facts that it was read from."""

    inventory: Inventory
    facts: list[Any]


class Native(Record):
    """What the room knows a device by.

    names: all that it has. described: the entry of each name. covers: the UUIDs of the devices that it is made of,
    where it is several at once, such as `all`.
    """

    names: tuple[str, ...]
    described: tuple[Described, ...]
    covers: tuple[str, ...] = ()
