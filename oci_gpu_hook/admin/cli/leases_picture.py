"""The picture of `oci-gpu leases`: a line for each device and each of its holders."""

from __future__ import annotations

import time

from oci_gpu_hook.admin.cli import described
from oci_gpu_hook.allocation import conflict, query, shares
from oci_gpu_hook.allocation.messages import amounts, part, remaining, wanted
from oci_gpu_hook.allocation.overdue import age, overdue
from oci_gpu_hook.base.errors import HookError, one_line
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.model import is_sick
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import snapshot as inventories
from oci_gpu_hook.devices.nvidia.devices import gpu_of
from oci_gpu_hook.lifecycle.census import Census
from oci_gpu_hook.oci.naming import SHORT, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from rich.console import Group

    from oci_gpu_hook.allocation.model import Lease, LeasedDevice, LeaseTable
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.everything import Listed
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.nvidia.model import Gpu

_GIB: Final = 1 << 30


class Row(Record):
    """A line of the table: a device and one of its holders, or none."""

    device: str
    product: str
    memory: str
    holder: str = ""
    engine: str = ""
    name: str = ""
    since: str = ""
    exclusive: bool = False
    share: str = ""

    @property
    def called(self) -> str:
        """What people call the holder."""
        return self.name or self.holder


def census(table: LeaseTable, config: Config) -> Census:
    """Return what the holders of leases are called."""
    found = Census(config)
    found.take(table.leases)
    return found


def of(config: Config, width: int, *, headers: bool = True) -> Group:
    """Return the table for a terminal of that width, and the lines below it."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    notes = []
    others, trouble = described.of_host(config)
    gpus: tuple[Gpu, ...] = ()
    try:
        gpus = inventories.load(config, detailed=True).gpus
    except HookError as error:  # the leases are useful even without a driver
        if not others:
            notes.append(f"warning: {error}")
    if trouble:
        notes.append(f"warning: {trouble}")
    found = query.current(config)
    lines = [*rows(found, census(found, config), gpus, others)]
    columns_from = _WITH_SHARES_FROM if any(line.share for line in lines) else _COLUMNS_FROM
    shown = next(columns for least, columns in columns_from if width >= least)
    table = Table(box=box.SIMPLE_HEAD if headers else None, pad_edge=False, padding=(0, 1), show_header=headers)
    for heading in shown:
        narrow = {"max_width": _PRODUCT} if heading == "PRODUCT" and "NAME" not in shown else {}
        table.add_column(heading, **{**_COLUMNS[heading], **narrow})  # type: ignore[arg-type]
    for row in lines:
        holder = row.holder if "NAME" in shown else row.called
        cells = {
            "GPU": Text(one_line(row.device)),
            "PRODUCT": Text(one_line(row.product)),
            "MEMORY": Text(row.memory),
            "HOLDER": Text(one_line(holder), style="bold") if row.holder else Text("free", style="green"),
            "ENGINE": Text(one_line(row.engine)),
            "NAME": Text(one_line(row.name)),
            "SINCE": Text(_age(row.since)),
            "SHARE": Text(row.share or ("exclusive" if row.exclusive else "whole") if row.holder else ""),
            "EXCLUSIVE": Text(("yes" if row.exclusive else "no") if row.holder else ""),
        }
        table.add_row(*(cells[heading] for heading in shown))
    late = overdue(found.leases, config, time.time())
    notes += [one_line(f"over [allocation] longest-hold: {lease.name}, {_age(lease.since)}") for lease in late]
    notes += parts(found, of_nvidia.everything(of_nvidia.of(gpus, reserve=config.sharing_reserve)))
    for place, waiter in enumerate(found.queue, 1):
        what = wanted(waiter.request)
        notes.append(one_line(f"waiting, {place}: {waiter.container} for {what}, {_age(waiter.since)}"))
    return Group(table, *(Text(note) for note in notes))


# What fits; the GPU and its holder always do. Without a column NAME the name stands in HOLDER, where there is one.
_COLUMNS_FROM: Final = (
    (110, ("GPU", "PRODUCT", "MEMORY", "HOLDER", "ENGINE", "NAME", "SINCE", "EXCLUSIVE")),
    (76, ("GPU", "PRODUCT", "MEMORY", "HOLDER", "ENGINE", "SINCE", "EXCLUSIVE")),
    (56, ("GPU", "HOLDER", "ENGINE", "SINCE", "EXCLUSIVE")),
    (36, ("GPU", "HOLDER", "SINCE")),
    (0, ("GPU", "HOLDER")),
)
_WITH_SHARES_FROM: Final = (
    (124, ("GPU", "PRODUCT", "MEMORY", "HOLDER", "ENGINE", "NAME", "SHARE", "SINCE", "EXCLUSIVE")),
    (76, ("GPU", "PRODUCT", "HOLDER", "ENGINE", "SHARE", "SINCE")),
    (56, ("GPU", "HOLDER", "ENGINE", "SHARE", "SINCE")),
    (46, ("GPU", "HOLDER", "SHARE", "SINCE")),
    (0, ("GPU", "HOLDER", "SHARE")),
)
_PRODUCT: Final = 14  # of its width, where there is little room
# On a narrow terminal the holder is wrapped rather than cut off: a name may be long.
_COLUMNS: Final[dict[str, dict[str, object]]] = {
    "GPU": {"no_wrap": True},
    "PRODUCT": {"no_wrap": True, "max_width": 24, "overflow": "ellipsis"},
    "MEMORY": {"no_wrap": True, "justify": "right"},
    "HOLDER": {"overflow": "fold", "min_width": SHORT},
    "ENGINE": {"no_wrap": True},
    "NAME": {"overflow": "fold"},
    "SHARE": {},
    "SINCE": {"no_wrap": True, "justify": "right"},
    "EXCLUSIVE": {"no_wrap": True},
}


def rows(table: LeaseTable, known: Census, gpus: Iterable[Gpu], others: Iterable[Listed] = ()) -> Iterator[Row]:
    """Return a line for each holder of each device: first this host's devices, then held ones that it lacks now.

    others: devices that the kernel or CDI specifications describe.
    """
    shown = set()
    devices = of_nvidia.of(gpus)
    lost = [device for device in devices if device.fault and not device.whole]
    for device in (*of_nvidia.everything(devices), *lost):
        holders = conflict.holders(device, table.leases)
        shown |= {leased for lease in holders for leased in lease.devices if _is_of(leased, device)}
        fault = "marked sick" if is_sick(device.fault) else "lost by the driver"
        product = fault if device.fault else _product(device)
        yield from _lines(Row(device=device.name, product=product, memory=_memory(device)), holders, known, device)
    for each in others:
        device = each.device
        holders = conflict.holders(device, table.leases)
        shown |= {leased for lease in holders for leased in lease.devices if _is_of(leased, device)}
        product = "lacks a node" if device.fault else each.product or ("" if each.by_kernel else "by CDI")
        yield from _lines(Row(device=device.label, product=product, memory=_memory(device)), holders, known, device)
    for lease in table.leases:
        for leased in lease.devices:
            if leased not in shown:
                gone = Row(device=leased.uuid, product="not on this host now", memory="")
                yield from _lines(gone, [lease], known)


def parts(table: LeaseTable, devices: Iterable[Device]) -> Iterator[str]:
    """Yield a line for each device of which containers have parts: how much is reserved, and what is left."""
    for device in devices:
        found = shares.standing(device, table.leases)
        if found.is_shared:
            left = remaining(device, found.memory_left, found.cores_left)
            reserved = amounts(found.memory_reserved, found.cores_reserved)
            yield one_line(f"{device.label}: {reserved} reserved, {left} left for others")


def _lines(row: Row, holders: Sequence[Lease], known: Census, held: Device | None = None) -> Iterator[Row]:
    """Yield a device's line once for each holder, and its name in the first. held: None if the host lacks it now."""
    if not holders:
        yield row
    for lease in holders:
        resident = known.of_lease(lease)
        yield row.replace(
            holder=short(lease.container),
            engine=resident.engine,
            name=lease.pod or resident.name,
            since=lease.since,
            exclusive=lease.exclusive,
            share=part(*shares.part_of(lease, held)) if held else "",
        )
        row = Row(device="", product="", memory="")


def _is_of(leased: LeasedDevice, device: Device) -> bool:
    """Tell whether a lease belongs on a device's line; the device may be a part of the leased one."""
    return leased.part == device.uuid if leased.part else leased.whole == (device.whole or device.uuid)


def _product(device: Device) -> str:
    name = gpu_of(device).name.removeprefix("NVIDIA ")
    return f"MIG {device.profile} of {name}" if device.whole else name


def _memory(device: Device) -> str:
    return f"{device.memory / _GIB:.0f} GiB" if device.memory else ""


def _age(since: str) -> str:
    """Return the age of a time in the record: `12s`, `5m`, `3h`, `2d`."""
    seconds = age(since, time.time())
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
