"""The room of a kind whose devices the kernel describes, or otherwise CDI specification files."""

from __future__ import annotations

import os

from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.cdi import room
from oci_gpu_hook.devices.cdi.devices import native
from oci_gpu_hook.devices.cdi.model import Inventory, Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container as Collection
    from collections.abc import Sequence
    from typing import Any, Final, Protocol

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.model import Described
    from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.use import DeviceUse
    from oci_gpu_hook.devices.vendor import Request

    class Discovery(Protocol):
        """A module that finds the devices of a kind in sysfs."""

        @property
        def KIND(self) -> str:  # noqa: N802  a constant of the module
            """The kind of its devices."""

        @property
        def UNSEEN(self) -> str:  # noqa: N802
            """What is said where the kernel shows none."""

        def look(self, config: Config, *, detailed: bool) -> Seen:
            """Return what the kernel shows. detailed: with memory, places and links."""

        def standing(self, config: Config) -> str:
            """Return what GPUs the kernel shows: "card", "integrated", "" for none."""

        def facts(self, config: Config) -> list[Any]:
            """Return what changes when devices come or go."""


_BY_KERNEL: Final = "kernel"  # the first of the facts of a snapshot of this room


class Seen(Record):
    """Devices, the kernel's file that describes them, and what each container that gets one of them gets, once."""

    devices: tuple[Described, ...] = ()
    told_by: str = ""
    edits: ContainerEdits


class Room(room.Room):
    """The devices of one kind."""

    def __init__(self, discovery: Discovery) -> None:
        super().__init__(discovery.KIND)
        self._discovery = discovery

    def snapshot(self, request: Request, config: Config) -> Snapshot:
        """Return what the kernel describes, otherwise what the specification files have. Raises DriverError."""
        counts = request.count is not None and (request.count > 1 or request.memory > 0)
        detailed = counts or request.memory_limit > 0
        found = self._seen(config, detailed=detailed)
        if found is None:
            described = super().snapshot(request, config)
            return described.replace(inventory=described.inventory.replace(unseen=self._discovery.UNSEEN))
        return Snapshot(inventory=found, facts=[_BY_KERNEL, *self._discovery.facts(config)])

    def inventory(self, config: Config) -> Inventory:
        """Return all that there is of the kind, in every detail."""
        return self.seen(config) or super().inventory(config)

    def standing(self, config: Config) -> str:
        """Return what GPUs the kernel shows: "card", "integrated", "" for none."""
        return self._discovery.standing(config)

    def is_fresh(self, snapshot: Snapshot, config: Config) -> bool:
        """Tell whether the devices, or the files, are as they were."""
        if snapshot.facts[:1] != [_BY_KERNEL]:
            return super().is_fresh(snapshot, config)
        return snapshot.facts[1:] == self._discovery.facts(config)

    def seen(self, config: Config) -> Inventory | None:
        """Return what the kernel describes, in every detail; None for nothing."""
        return self._seen(config, detailed=True)

    def used(self, config: Config) -> dict[str, DeviceUse]:
        """Return what sysfs shows of the use of the devices that the kernel describes."""
        from oci_gpu_hook.devices.kernel import usage

        inventory = self.seen(config)
        return usage.of(self.devices(inventory, config), config) if inventory else {}

    def of_nodes(
        self,
        devices: Sequence[Device],
        inventory: Inventory,
        numbers: Collection[tuple[int, int]],
        host_paths: Collection[str],
    ) -> tuple[Device, ...]:
        """Return the devices of which a container has a node: what all of a kind share, such as /dev/kfd, is none."""
        if not inventory.by_kernel:
            return super().of_nodes(devices, inventory, numbers, host_paths)
        known = [(device, native(device)) for device in devices]
        return tuple(
            device
            for device, its in known
            if not its.covers
            and any(_is_among(node, numbers, host_paths) for node in its.described[0].edits.device_nodes)
        )

    def _seen(self, config: Config, *, detailed: bool) -> Inventory | None:
        found = self._discovery.look(config, detailed=detailed)
        if not found.devices:
            return None
        return Inventory(
            kind=self.kind,
            directories=config.cdi_spec_dirs,
            files=((found.told_by, found.edits),),
            devices=found.devices,
            by_kernel=True,
        )


def _is_among(node: DeviceNode, numbers: Collection[tuple[int, int]], host_paths: Collection[str]) -> bool:
    path = node.host_path or node.path
    if path in host_paths:
        return True
    try:
        number = os.stat(path).st_rdev
    except OSError:
        return False
    return (os.major(number), os.minor(number)) in numbers
