"""A look at the host: its devices, what they are used for, by whom, and who waits. What cannot be seen is a warning."""

from __future__ import annotations

import os

from oci_gpu_hook.allocation import query
from oci_gpu_hook.allocation.store import RECORD
from oci_gpu_hook.base import state
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import DriverError, HookError, StateError, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import listing, presence, vendors
from oci_gpu_hook.devices.cdi import devices as of_cdi
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import snapshot
from oci_gpu_hook.devices.nvidia.usage import Meter
from oci_gpu_hook.lifecycle import usage
from oci_gpu_hook.lifecycle.census import Census
from oci_gpu_hook.request import qualified_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from oci_gpu_hook.allocation.model import LeaseTable
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.devices.use import DeviceUse
    from oci_gpu_hook.lifecycle.usage import DeviceView


class Look(Record):
    """What was seen. table: None where it cannot be read.

    metered: whether the driver said what its GPUs are used for. whole: whether the leases are those of all containers.
    nvidia: whether the host has GPUs of NVIDIA's, or is not known to have others alone.
    """

    views: tuple[DeviceView, ...]
    table: LeaseTable | None
    metered: bool
    whole: bool
    driver_version: str = ""
    nvidia: bool = True
    warnings: tuple[str, ...] = ()


class Lookout:
    """Looks as often as it is asked. Used in a `with` block, at whose end NVML is let go."""

    def __init__(self, config: Config, runtime_roots: tuple[str, ...] = ()) -> None:
        """Take the configuration as it was loaded. runtime_roots: where further runtimes keep their states."""
        self._config = configs.of_this_user(config)
        self._of_root = config.state_dir
        self._census = Census(self._config, runtime_roots)
        self._meter: Meter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._meter:
            self._meter.__exit__()

    def look(self) -> Look:
        """Return what there is to see now. Raises HookError if neither driver nor leases can be read."""
        table, uses, inventory = None, None, None
        troubles: list[HookError] = []
        kinds = presence.of_host(self._config)
        has_nvidias = not kinds or not set(vendors.KINDS).isdisjoint(kinds)
        try:
            check_readable(self._config)
            table = query.current(self._config)
        except HookError as error:
            troubles.append(error)
        try:
            inventory = snapshot.load(self._config, detailed=True)
            uses = self._uses(inventory)
        except HookError as error:
            if has_nvidias:
                troubles.append(error)
        if table is None and inventory is None and has_nvidias:
            raise troubles[-1]
        is_whole = table is not None and self._config.state_dir == self._of_root
        if table is not None and not is_whole:
            troubles.append(_unreadable(self._of_root))
        exclude, reserve = self._config.allocation_exclude, self._config.sharing_reserve
        devices = of_nvidia.of(inventory.gpus, exclude, reserve) if inventory else ()
        listed, trouble = listing.of_host(self._config, is_other)
        others = tuple([each.device for each in listed])
        troubles += [trouble] if trouble else []
        told = {uuid: use for kind in kinds if kind in vendors.SEEN for uuid, use in self._told(kind).items()}
        views = usage.view((*devices, *others), {**(uses or {}), **told}, table.leases if table else (), self._census)
        return Look(
            views=views,
            table=table,
            metered=uses is not None,
            whole=is_whole,
            driver_version=inventory.driver_version if inventory else "",
            nvidia=has_nvidias,
            warnings=tuple([str(trouble) for trouble in troubles]),
        )

    def _told(self, kind: str) -> Mapping[str, DeviceUse]:
        """Return what sysfs shows of the devices of a kind."""
        return vendors.of(kind).used(self._config)

    def _uses(self, inventory: Inventory) -> Mapping[str, DeviceUse]:
        if not inventory.gpus:
            raise DriverError("no GPU", "the driver has none on this host", "see `oci-gpu doctor`", "OGH1403")
        if self._meter is None:
            self._meter = Meter(inventory)
        return self._meter.read()


def product_of(device: Device) -> str:
    """Return a GPU's name, or that of the GPU that a MIG device is a part of; "" where nobody says so."""
    if device.kind == of_nvidia.KIND:
        return of_nvidia.gpu_of(device).name
    return of_cdi.native(device).described[0].product


def is_other(kind: str) -> bool:
    """Tell whether a kind is of another vendor than NVIDIA."""
    return not qualified_name.kind_of(kind.partition("/")[0])


def check_readable(config: Config, *, to_change: bool = False) -> None:
    """Raise StateError if this user may not read who holds what, or change it."""
    directory = config.state_dir
    if not os.path.isdir(directory):
        return
    if to_change and not os.access(directory, os.W_OK):
        raise state.unusable(directory, PermissionError())
    record = os.path.join(directory, RECORD)
    if not os.access(directory, os.R_OK | os.X_OK) or (os.path.exists(record) and not os.access(record, os.R_OK)):
        raise _unreadable(directory)


def _unreadable(directory: str) -> StateError:
    why = "can be read by root only, so it is not known which GPUs the containers of root hold"
    return StateError(f"state directory {quoted(directory)}", why, "run this as root", "OGH1113")
