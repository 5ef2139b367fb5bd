"""Devices that CDI specification files describe, as a request for one kind needs them. Pure values."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.devices.edits import ContainerEdits

NO_DRIVER: Final = ""


class Described(Record):
    """A device of a specification file. file: its place among the inventory's `files`. edits: what it brings."""

    name: str
    file: int
    edits: ContainerEdits


class Inventory(Record):
    """What the specification files have of one kind.

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
