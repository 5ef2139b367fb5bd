"""Show the use of each GPU: utilization, memory, power and temperature; the containers that hold or use it, with their
processes; and the processes that use it outside of any container.

NVML is asked for the figures, by which GPUs without persistence mode stay initialised meanwhile. Without root those
parts are shown that a user may see.
"""  # noqa: D205  the help text of the command, wrapped by argparse

from __future__ import annotations

import argparse  # noqa: TID253  a command for people
import sys
import time

from oci_gpu_hook.admin.cli.leases_json import standing
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.oci.naming import short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.admin.metering.look import Look, Lookout
    from oci_gpu_hook.lifecycle.usage import DeviceView, Holder, Working

_INTERVAL: Final = 1.0
_SHORTEST: Final = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--once", action="store_true", help="look once and exit")
    parser.add_argument(
        "--interval", metavar="SECONDS", type=_seconds, default=_INTERVAL, help="between looks (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON per look (schemas/top.schema.json)")
    parser.add_argument(
        "--runtime-root",
        metavar="DIR",
        action="append",
        default=[],
        help="where a further runtime keeps its state, for names of its containers",
    )


def run(options: argparse.Namespace) -> int:
    """Look until interrupted, or once. Raises HookError if there is nothing that can be read."""
    from oci_gpu_hook.admin.metering.look import Lookout

    config = configs.load(options.config)
    with Lookout(config, tuple(options.runtime_root)) as lookout:
        if not options.once and not options.json and sys.stdout.isatty():
            _live(lookout, options.interval)
            return 0
        while True:
            _print(lookout.look(), as_json=options.json)
            if options.once:
                return 0
            time.sleep(options.interval)


def to_json(look: Look) -> dict[str, object]:
    """Return the form that `schemas/top.schema.json` describes."""
    return {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "driver": look.driver_version or None,
        "devices": [_device(view, knows_holders=look.table is not None) for view in look.views],
        "warnings": list(look.warnings),
    }


def _print(look: Look, *, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(to_json(look)), flush=True)
        return
    from oci_gpu_hook.admin.cli import top_picture
    from oci_gpu_hook.admin.cli.console import console

    out = console()
    out.print(top_picture.of(look, out.width))
    sys.stdout.flush()


def _live(lookout: Lookout, interval: float) -> None:
    """Redraw the screen until interrupted."""
    from rich.live import Live

    from oci_gpu_hook.admin.cli import top_picture
    from oci_gpu_hook.admin.cli.console import console

    out = console()
    first = lookout.look()
    try:
        with Live(
            top_picture.of(first, out.width), console=out, screen=True, auto_refresh=False, vertical_overflow="crop"
        ) as live:
            while True:
                time.sleep(interval)
                live.update(top_picture.of(lookout.look(), out.width), refresh=True)
    except KeyboardInterrupt:  # this is how people end it
        return


def _device(view: DeviceView, *, knows_holders: bool) -> dict[str, object]:
    device, use = view.device, view.use
    return {
        "device": device.name,
        "kind": device.kind,
        "uuid": device.uuid,
        "parent": device.whole or None,
        "profile": device.profile or None,
        "fault": device.fault or None,
        "utilization": use.utilization if use else None,
        "memoryUtilization": use.memory_utilization if use else None,
        "memoryUsed": use.memory_used if use else None,
        "memoryTotal": (use.memory_total if use else None) or device.memory or None,
        "power": use.power if use else None,
        "powerLimit": use.power_limit if use else None,
        "temperature": use.temperature if use else None,
        "shares": standing(view.standing) if view.standing and knows_holders else None,
        "holders": [_holder(holder) for holder in view.holders],
        "outside": [_process(process) for process in view.outside],
    }


def _holder(holder: Holder) -> dict[str, object]:
    container = holder.container
    return {
        "container": container.id,
        "shortId": short(container.id),
        "pid": container.pid or None,
        "engine": container.engine or None,
        "name": container.name or None,
        "pod": container.pod or None,
        "leased": holder.leased,
        "exclusive": holder.exclusive,
        "since": holder.since or None,
        "reservedMemory": holder.reserved_memory or None,
        "reservedCores": holder.reserved_cores or None,
        "memory": holder.memory,
        "utilization": holder.utilization,
        "processes": [_process(process) for process in holder.processes],
    }


def _process(process: Working) -> dict[str, object]:
    return {
        "pid": process.pid,
        "name": process.name,
        "kind": "mps-server" if process.server else process.kind,
        "memory": process.memory,
        "utilization": process.utilization,
    }


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"give a number of seconds from {_SHORTEST} on")
    return seconds
