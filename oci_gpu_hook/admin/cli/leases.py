"""Show which container holds which GPU, and which GPUs are free; release a lease manually.

A lease ends with its container, so `release` is only for containers that this host cannot see. It refuses to release a
living container's lease, unless forced, because the container would still use the GPU.
"""

from __future__ import annotations

import os
import sys
import time

from oci_gpu_hook.admin.cli import described
from oci_gpu_hook.admin.cli.console import console
from oci_gpu_hook.allocation import conflict, query, release, shares
from oci_gpu_hook.allocation.messages import amounts
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import AllocationError, HookError, InvalidInput, one_line, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import snapshot as inventories
from oci_gpu_hook.devices.nvidia.devices import gpu_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from rich.console import Group

    from oci_gpu_hook.allocation.model import Lease, LeasedDevice, LeaseTable
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.nvidia.model import Gpu

SUMMARY: Final = "show who holds which GPU, or release a lease"
_REDRAW: Final = 1.0  # seconds between two updates of --watch
_GIB: Final = 1 << 30


class Row(Record):
    """A line of the table: a device and one of its holders, or none."""

    device: str
    product: str
    memory: str
    holder: str = ""
    since: str = ""
    exclusive: bool = False
    share: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--json", action="store_true", help="print JSON (schemas/leases.schema.json)")
    parser.add_argument("--watch", action="store_true", help="redraw the table every second until interrupted")
    actions = parser.add_subparsers(metavar="ACTION")
    release = actions.add_parser("release", help="drop the lease of a container", description=_release.__doc__)
    release.add_argument("container", metavar="ID|PID", help="the container's id or its beginning, or its process")
    release.add_argument("--force", action="store_true", help="even if the container is alive and uses its GPUs")
    parser.set_defaults(container=None)


def run(options: argparse.Namespace) -> int:
    """Show the leases, or release one. Raises HookError if the record cannot be used."""
    config = configs.of_this_user(configs.load(options.config))
    if os.path.isdir(config.state_dir) and not os.access(config.state_dir, os.R_OK | os.X_OK):
        raise AllocationError(f"cannot read {quoted(config.state_dir)}", "it is root's alone", "run this as root")
    if options.container is not None:
        return _release(options.container, config, force=options.force)
    if options.json:
        import json

        print(json.dumps(to_json(query.current(config)), indent=2))
    elif options.watch:
        _watch(config)
    else:
        console().print(_picture(config))
    return 0


def to_json(table: LeaseTable) -> list[dict[str, object]]:
    """Return the form that `schemas/leases.schema.json` describes."""
    return [
        {
            "container": lease.container,
            "gpus": [device.uuid for device in lease.devices],
            "exclusive": lease.exclusive,
            "pid": lease.holder.pid,
            "since": lease.since,
            **({"pod": lease.pod} if lease.pod else {}),
            **({"shares": shares} if (shares := _shares(lease)) else {}),
        }
        for lease in table.leases
    ]


def _shares(lease: Lease) -> dict[str, dict[str, int]]:
    """Return what a container has of those devices of which it has a part."""
    return {
        device.uuid: {"memory": device.memory, "cores": device.cores} for device in lease.devices if device.is_share
    }


def rows(table: LeaseTable, gpus: Iterable[Gpu], others: Iterable[Device] = ()) -> Iterator[Row]:
    """Return a line for each holder of each device: first this host's devices, then held ones that it lacks now.

    others: devices that CDI specifications describe.
    """
    shown = set()
    devices = of_nvidia.of(gpus)
    lost = [device for device in devices if device.fault and not device.whole]
    for device in (*of_nvidia.everything(devices), *lost):
        holders = conflict.holders(device, table.leases)
        shown |= {leased for lease in holders for leased in lease.devices if _is_of(leased, device)}
        product = "lost by the driver" if device.fault else _product(device)
        yield from _lines(device.name, product, _memory(device), holders, device)
    for device in others:
        holders = conflict.holders(device, table.leases)
        shown |= {leased for lease in holders for leased in lease.devices if _is_of(leased, device)}
        yield from _lines(device.label, "by CDI" if not device.fault else "lacks a node", "", holders)
    for lease in table.leases:
        for leased in lease.devices:
            if leased not in shown:
                yield from _lines(leased.uuid, "not on this host now", "", [lease])


def left(table: LeaseTable, devices: Iterable[Device]) -> Iterator[str]:
    """Yield a line for each device of which containers have shares: what they have, and what is left."""
    for device in devices:
        memory, cores, count = shares.reserved(device, table.leases)
        if count:
            rest = shares.left(device, table.leases)
            what = f"{count} share{'s' * (count != 1)}: {amounts(memory, cores)}"
            yield f"{device.label}: {what}; {amounts(max(rest.memory, 0), max(rest.cores, 0))} left for others"


def _lines(device: str, product: str, memory: str, holders: list[Lease], of: Device | None = None) -> Iterator[Row]:
    if not holders:
        yield Row(device=device, product=product, memory=memory)
    for lease in holders:
        yield Row(
            device=device,
            product=product,
            memory=memory,
            holder=lease.name,
            since=lease.since,
            exclusive=lease.exclusive,
            share=_share(lease, of),
        )
        device = product = memory = ""


def _is_of(leased: LeasedDevice, device: Device) -> bool:
    """Tell whether a lease belongs on a device's line; the device may be a part of the leased one."""
    return leased.part == device.uuid if leased.part else leased.whole == (device.whole or device.uuid)


def _share(lease: Lease, of: Device | None) -> str:
    found = [leased for leased in lease.devices if leased.is_share and of and conflict.is_of(leased, of)]
    return ", ".join(amounts(leased.memory, leased.cores).replace(" of the cores", "") for leased in found)


def _product(device: Device) -> str:
    name = gpu_of(device).name.removeprefix("NVIDIA ")
    return f"MIG {device.profile} of {name}" if device.whole else name


def _memory(device: Device) -> str:
    return f"{device.memory / _GIB:.0f} GiB" if device.memory else ""


def _picture(config: Config) -> Group:
    """Return the table, and the lines below it."""
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
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading, options in _COLUMNS.items():
        table.add_column(heading, **options)  # type: ignore[arg-type]
    lines = list(rows(found, gpus, [each.device for each in others]))
    parts = any(row.share for row in lines)
    if parts:
        table.add_column("PART", no_wrap=True)
    for row in lines:
        table.add_row(
            Text(one_line(row.device)),
            Text(one_line(row.product)),
            row.memory,
            Text(one_line(row.holder), style="bold") if row.holder else Text("free", style="green"),
            _age(row.since),
            ("yes" if row.exclusive else "no") if row.holder else "",
            *([row.share] if parts else []),
        )
    notes += left(found, of_nvidia.everything(of_nvidia.of(gpus, reserve=config.sharing_reserve)))
    for place, waiter in enumerate(found.queue, 1):
        wanted = waiter.request.count or ", ".join(waiter.request.devices)
        notes.append(one_line(f"waiting, {place}: {waiter.container} for {wanted}, {_age(waiter.since)}"))
    return Group(table, *(Text(note) for note in notes))


# On a narrow terminal only the longest column is wrapped: engines' ids have 64 digits.
_COLUMNS: Final[dict[str, dict[str, object]]] = {
    "GPU": {"no_wrap": True},
    "PRODUCT": {"no_wrap": True, "max_width": 24, "overflow": "ellipsis"},
    "MEMORY": {"no_wrap": True, "justify": "right"},
    "HOLDER": {"overflow": "ellipsis"},
    "SINCE": {"no_wrap": True, "justify": "right"},
    "EXCLUSIVE": {"no_wrap": True},
}


def _watch(config: Config) -> None:
    """Redraw the table until interrupted."""
    from rich.live import Live

    try:
        with Live(_picture(config), console=console(), screen=sys.stdout.isatty(), auto_refresh=False) as live:
            while True:
                time.sleep(_REDRAW)
                live.update(_picture(config), refresh=True)
    except KeyboardInterrupt:  # this is how people end it
        return


def _age(since: str) -> str:
    """Return the age of a time in the record: `12s`, `5m`, `3h`, `2d`."""
    from calendar import timegm

    try:
        seconds = int(time.time()) - timegm(time.strptime(since, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{max(seconds, 0)}s"


def _release(text: str, config: Config, *, force: bool) -> int:
    """Drop the lease of a container, so that its GPUs can be granted to others."""
    leases = query.current(config).leases
    meant = _meant(text, leases)
    if len({lease.container for lease in meant}) > 1:
        why = f"could be any of {', '.join(dict.fromkeys(quoted(lease.container) for lease in meant))}"
        raise InvalidInput(f"container {quoted(text)}", why, "give more of the id")
    if len(meant) > 1:
        why = f"is the id of several: pid {', '.join(str(lease.holder.pid) for lease in meant)}"
        raise InvalidInput(f"container {quoted(text)}", why, "give the pid of the one you mean")
    if not meant:
        if release.release_by_hand(text, config, force=force):  # its process had ended, so it was no longer shown
            return 0
        known = ", ".join(dict.fromkeys(quoted(lease.name) for lease in leases)) or "nobody"
        raise InvalidInput(f"container {quoted(text)}", "has no lease", f"these have one: {known}")
    (lease,) = meant
    if not release.release_by_hand(lease.container, config, pid=lease.holder.pid, force=force):
        why = "lives, and would go on using its GPUs"
        raise AllocationError(f"container {quoted(lease.container)}", why, "stop it, or use --force")
    print(f"released the GPUs of container {quoted(lease.container)}")
    return 0


def _meant(text: str, leases: Sequence[Lease]) -> list[Lease]:
    """Return the leases that a text means: an id, process, pod, beginning of an id, or last part of a Mesos name."""
    for is_meant in (
        lambda lease: lease.container == text,
        lambda lease: str(lease.holder.pid) == text,
        lambda lease: bool(text) and lease.pod == text,
        lambda lease: bool(text) and lease.container.startswith(text),
        lambda lease: bool(text) and lease.container.endswith(f".{text}"),
    ):
        if found := [lease for lease in leases if is_meant(lease)]:
            return found
    return []
