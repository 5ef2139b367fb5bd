"""The interface between the room of a vendor and all other rooms.

A vendor's room is a package with one interface module, or an object, that is a `Vendor`; `vendors` has the table. All
else in a room is private to it. This module is for type checkers and readers: no start imports it.
"""

# ruff: noqa: D102  members without a word mean what they mean in the values that they stand for

from __future__ import annotations

from typing import Any, Protocol  # noqa: TID253  imported by type checkers only

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Container as Collection
    from collections.abc import Iterable, Mapping, Sequence

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.base.errors import InvalidInput
    from oci_gpu_hook.base.record import Record
    from oci_gpu_hook.devices.edits import ContainerEdits
    from oci_gpu_hook.devices.model import Contribution, Device, Limiter, Terms
    from oci_gpu_hook.devices.use import DeviceUse
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.oci.image import Image


class Request(Protocol):
    """The parts of a request that vendors' rooms read; request.model.Request describes them."""

    @property
    def devices(self) -> tuple[str, ...]: ...
    @property
    def engine_serves(self) -> bool: ...
    @property
    def count(self) -> int | None: ...
    @property
    def memory(self) -> int: ...
    @property
    def memory_limit(self) -> int: ...
    @property
    def cores(self) -> int: ...
    @property
    def driver_capabilities(self) -> tuple[str, ...]: ...
    @property
    def requirements(self) -> tuple[str, ...]: ...
    @property
    def mig_config_devices(self) -> str | None: ...
    @property
    def mig_monitor_devices(self) -> str | None: ...
    @property
    def imex_channels(self) -> tuple[int, ...]: ...
    @property
    def features(self) -> tuple[str, ...]: ...


class Rootfs(Protocol):
    """A container's root directory, from which facts are read; no path leads out of it (apply.rootfs)."""

    def exists(self, path: str, /) -> bool: ...
    def names(self, path: str, /) -> list[str]: ...
    def read(self, path: str, /, limit: int) -> bytes: ...
    def open_file(self, path: str, /) -> int | None: ...
    def status(self, path: str, /, flags: int = ...) -> os.stat_result | None: ...
    def is_volume(self, path: str, /) -> bool: ...


class Inventory(Protocol):
    """What the host has of a vendor, as far as one request needs it. Other members are private to the room."""

    @property
    def warnings(self) -> tuple[str, ...]: ...
    @property
    def driver_version(self) -> str: ...


class Snapshot(Protocol):
    """An inventory, and the facts that tell later whether it is still valid."""

    @property
    def inventory(self) -> Any: ...


class Vendor(Protocol):
    """A vendor's interface module.

    Snapshots and inventories have types of the room's own: one function returns them, others take them.
    """

    @property
    def TERMS(self) -> Terms: ...  # noqa: N802  a constant of the module

    def snapshot(self, request: Request, config: Config) -> Snapshot:
        """Return what the host has, as far as the request needs it. Raises DriverError."""

    def is_fresh(self, snapshot: Any, config: Config) -> bool:
        """Tell whether the snapshot is still valid."""

    def not_yet(self, request: Request, inventory: Any, config: Config) -> str:
        """Describe what the request needs and the host may still get, "" if nothing is missing."""

    def devices(self, inventory: Any, config: Config) -> tuple[Device, ...]:
        """Return the devices in order, each whole device followed by its parts."""

    def running_driver(self, config: Config) -> str:
        """Return the version of the driver that the kernel runs, "" for none."""

    def made_node(self, path: str, config: Config) -> tuple[int, int] | None:
        """Return the numbers of a node that containers get although the host has none at that path, otherwise None."""

    def served(
        self, request: Request, inventory: Any, devices: Sequence[Device]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the request that are served here, and warnings of those that are left to the engine.

        Raises InvalidInput for others, where the inventory has more to say of them than `resolve` knows.
        """

    def resolve(self, names: Iterable[str], devices: Sequence[Device]) -> tuple[Device, ...]:
        """Return the named devices, in the order of the names.

        Raises InvalidInput for an unknown name, and for a device with a fault.
        """

    def lost(self, uuids: Iterable[str], config: Config) -> Mapping[str, str]:
        """Return those devices that the host no longer has or cannot use, and why; {} if that is unknown."""

    def of_nodes(
        self,
        devices: Sequence[Device],
        inventory: Any,
        numbers: Collection[tuple[int, int]],
        host_paths: Collection[str],
    ) -> tuple[Device, ...]:
        """Return the devices that a container can use through nodes with these numbers, or these nodes of the host."""

    def no_profile(self, profile: str, devices: Sequence[Device]) -> InvalidInput:
        """Return the error for a profile that none of the devices has."""

    def of_minors(self, devices: Sequence[Device], minors: Collection[int]) -> tuple[Device, ...]:
        """Return the devices whose node has one of these minor numbers."""

    def image_facts(self, rootfs: Rootfs, container: Container, config: Config) -> Record:
        """Return the facts of the image that the vendor's contribution depends on. Raises InvalidInput."""

    def contribution(
        self, request: Request, inventory: Any, devices: Sequence[Device], image: Image, config: Config
    ) -> Contribution:
        """Return what the container gets. Raises DriverError, InvalidInput."""

    def device_edits(self, request: Request, inventory: Any, devices: Sequence[Device]) -> ContainerEdits:
        """Return the part of the contribution that does not depend on the image: nodes, and groups for them."""

    def views(self, devices: Sequence[Device]) -> tuple[str, ...]:
        """Return the paths, in file systems of the hook's own, at which containers with these devices see them."""

    def used(self, config: Config) -> Mapping[str, DeviceUse]:
        """Return what devices are used for now, by UUID; {} if that is unknown. For commands. Raises DriverError."""

    def limiter(self, request: Request, inventory: Any, devices: Sequence[Device]) -> Limiter:
        """Return what holds a container to its parts of devices. Raises InvalidInput, DriverError where nothing can."""

    def to_json(self, device: Device) -> dict[str, object]:
        """Return what `oci-gpu plan --json` shows of a device."""
