"""Show which container holds which GPU, and which GPUs are free; release a lease manually.

A lease ends with its container, so `release` is only for containers that this host cannot see. It refuses to release a
living container's lease, unless forced, because the container would still use the GPU.
"""

from __future__ import annotations

import sys
import time

from oci_gpu_hook.admin.cli import leases_picture
from oci_gpu_hook.admin.cli.console import console
from oci_gpu_hook.admin.metering import look
from oci_gpu_hook.allocation import query, release, shares
from oci_gpu_hook.allocation.overdue import is_overdue
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import AllocationError, InvalidInput, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.allocation.model import Lease, LeaseTable
    from oci_gpu_hook.allocation.shares import Standing
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.lifecycle.census import Census

SUMMARY: Final = "show who holds which GPU, or release a lease"
_REDRAW: Final = 1.0  # seconds between two updates of --watch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--json", action="store_true", help="print JSON (schemas/leases.schema.json)")
    parser.add_argument("--watch", action="store_true", help="redraw the table every second until interrupted")
    actions = parser.add_subparsers(metavar="ACTION")
    release = actions.add_parser("release", help="drop the lease of a container", description=_release.__doc__)
    release.add_argument(
        "container", metavar="NAME|ID|PID", help="the container's name, its id or the beginning of that, or its process"
    )
    release.add_argument("--force", action="store_true", help="even if the container is alive and uses its GPUs")
    parser.set_defaults(container=None)


def run(options: argparse.Namespace) -> int:
    """Show the leases, or release one. Raises HookError if the record cannot be used."""
    config = configs.of_this_user(configs.load(options.config))
    look.check_readable(config, to_change=options.container is not None)
    if options.container is not None:
        return _release(options.container, config, force=options.force)
    if options.json:
        import json

        table = query.current(config)
        devices = leases_picture.devices_of(config) if _have_shares(table) else ()
        print(json.dumps(to_json(table, leases_picture.census(table, config), config, devices), indent=2))
    elif options.watch:
        _watch(config)
    else:
        out = console()
        out.print(leases_picture.of(config, out.width))
    return 0


def to_json(
    table: LeaseTable, census: Census, config: Config, devices: Sequence[Device] = ()
) -> list[dict[str, object]]:
    """Return the form that `schemas/leases.schema.json` describes. devices: of this host, as far as it can be asked."""
    left = {device.uuid: shares.standing(device, table.leases) for device in devices}
    return [
        {
            "container": lease.container,
            "gpus": [device.uuid for device in lease.devices],
            "exclusive": lease.exclusive,
            "pid": lease.holder.pid,
            "since": lease.since,
            **({"overdue": True} if is_overdue(lease, config, time.time()) else {}),
            **{name: text for name, text in _names(lease, census).items() if text},
            **({"shares": parts} if (parts := _parts(lease, left)) else {}),
        }
        for lease in table.leases
    ]


def _have_shares(table: LeaseTable) -> bool:
    return any(device.is_share for lease in table.leases for device in lease.devices)


def _parts(lease: Lease, left: Mapping[str, Standing]) -> dict[str, dict[str, int]]:
    """Return what a container has of those devices of which it has a part, and what is left of these for others."""
    return {
        device.uuid: {"memory": device.memory, "cores": device.cores, **_left(left.get(device.uuid))}
        for device in lease.devices
        if device.is_share
    }


def _left(standing: Standing | None) -> dict[str, int]:
    return {"memoryLeft": standing.memory_left, "coresLeft": standing.cores_left} if standing else {}


def _names(lease: Lease, census: Census) -> dict[str, str]:
    resident = census.of_lease(lease)
    return {"pod": lease.pod, "engine": resident.engine, "name": resident.name}


def _watch(config: Config) -> None:
    """Redraw the table until interrupted."""
    from rich.live import Live

    out = console()
    try:
        with Live(
            leases_picture.of(config, out.width), console=out, screen=sys.stdout.isatty(), auto_refresh=False
        ) as live:
            while True:
                time.sleep(_REDRAW)
                live.update(leases_picture.of(config, out.width), refresh=True)
    except KeyboardInterrupt:  # this is how people end it
        return


def _release(text: str, config: Config, *, force: bool) -> int:
    """Drop the lease of a container, so that its GPUs can be granted to others."""
    table = query.current(config)
    leases = table.leases
    meant = _meant(text, leases, leases_picture.census(table, config))
    if len({lease.container for lease in meant}) > 1:
        why = f"could be any of {', '.join(dict.fromkeys(quoted(lease.container) for lease in meant))}"
        raise InvalidInput(f"container {quoted(text)}", why, "give more of the id", "OGH1901")
    if len(meant) > 1:
        why = f"is the id of several: pid {', '.join(str(lease.holder.pid) for lease in meant)}"
        raise InvalidInput(f"container {quoted(text)}", why, "give the pid of the one you mean", "OGH1901")
    if not meant:
        if release.release_by_hand(text, config, force=force):  # its process had ended, so it was no longer shown
            return 0
        known = ", ".join(dict.fromkeys(quoted(lease.name) for lease in leases))
        remedy = f"these have one: {known}" if known else "no container has a lease, so there is nothing to release"
        raise InvalidInput(f"container {quoted(text)}", "has no lease", remedy, "OGH1901")
    (lease,) = meant
    if not release.release_by_hand(lease.container, config, pid=lease.holder.pid, force=force):
        why = "is still running and would keep its GPUs"
        raise AllocationError(f"container {quoted(lease.container)}", why, "stop it, or use --force", "OGH1310")
    print(f"released the GPUs of container {quoted(lease.container)}")
    return 0


def _meant(text: str, leases: Sequence[Lease], census: Census) -> list[Lease]:
    """Return the leases that a text means.

    It may be an id, a name, a process, a pod, the beginning of an id, or the last part of a Mesos name.
    """
    for is_meant in (
        lambda lease: lease.container == text,
        lambda lease: bool(text) and census.of_lease(lease).name == text,
        lambda lease: str(lease.holder.pid) == text,
        lambda lease: bool(text) and lease.pod == text,
        lambda lease: bool(text) and lease.container.startswith(text),
        lambda lease: bool(text) and lease.container.endswith(f".{text}"),
    ):
        if found := [lease for lease in leases if is_meant(lease)]:
            return found
    return []
