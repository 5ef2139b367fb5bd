"""Show the state of each GPU: free, held, excluded, lost by the driver, or marked sick; take such a mark away.

`oci-gpu watch` marks a GPU sick when the driver reports an error after which only a reset helps. Counts and `all` pass
it over, and its name is refused, until it is healed. Containers that hold it keep it.
"""

from __future__ import annotations

import sys

from oci_gpu_hook.admin.cli import described
from oci_gpu_hook.admin.metering import look
from oci_gpu_hook.allocation import conflict, query
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import DriverError, StateError, one_line, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.model import is_sick, why_not
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import names, sick, snapshot
from oci_gpu_hook.lifecycle.census import Census

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Final

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device


# What fits, by the columns of a terminal; GPU, state and holder always do.
_COLUMNS_FROM: Final = (
    (76, ("GPU", "BUS", "PRODUCT", "STATE", "")),
    (56, ("GPU", "BUS", "STATE", "")),
    (0, ("GPU", "STATE", "")),
)
_WHOLE: Final = ("GPU", "BUS", "STATE")


class State(Record):
    """A GPU as it is shown. leases: of its holders. why: of lost and sick ones.

    state: free, held, excluded, lost, sick, or unknown to a user who may not read the leases.
    """

    index: int | None
    uuid: str
    bus_id: str
    name: str
    state: str
    leases: tuple[Lease, ...]
    why: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--json", action="store_true", help="print JSON (schemas/gpus.schema.json)")
    actions = parser.add_subparsers(metavar="ACTION")
    heal = actions.add_parser(
        "heal",
        help="take the mark of a sick GPU away",
        description=_heal.__doc__,
        formatter_class=parser.formatter_class,
    )
    heal.add_argument("gpu", metavar="GPU", help="its index, UUID or bus id, or `all`")
    parser.set_defaults(gpu=None)


def run(options: argparse.Namespace) -> int:
    """Show the GPUs, or heal one. Raises HookError."""
    config = configs.of_this_user(configs.load(options.config))
    if options.gpu is not None:
        return _heal(options.gpu, config)
    try:
        found = states(config)
    except DriverError as error:
        raise _of_others(config) or error from None
    if options.json:
        import json

        print(json.dumps([_to_json(each) for each in found], indent=2))
    else:
        _show(found, config)
        if kinds := _other_kinds(config):
            print(f"oci-gpu: note: devices of {kinds} have no such states; see `oci-gpu leases`", file=sys.stderr)
    if any(each.state == "unknown" for each in found):
        print("oci-gpu: warning: only root may see which GPUs are held; run this as root", file=sys.stderr)
    return 0


def _of_others(config: Config) -> DriverError | None:
    """Return the error for a host whose GPUs are other vendors', None if it has none."""
    kinds = _other_kinds(config)
    if not kinds:
        return None
    why = f"only NVIDIA's GPUs have these states, and this host has devices of {kinds}"
    remedy = "see `oci-gpu leases` for their holders, `oci-gpu doctor` for what is wrong with them"
    return DriverError("no NVIDIA driver is loaded", why, remedy, "OGH1401")


def _other_kinds(config: Config) -> str:
    """Return the kinds of the devices that are not NVIDIA's GPUs, "" where the host has none."""
    others, _ = described.of_host(config)
    return ", ".join(dict.fromkeys(each.device.kind for each in others))


def states(config: Config) -> list[State]:
    """Return the state of each GPU of this host. Raises DriverError."""
    try:
        look.check_readable(config)
        leases, otherwise = query.readable(config).leases, "free"
    except StateError:
        leases, otherwise = (), "unknown"
    found = []
    for device in _whole(config):
        gpu = of_nvidia.gpu_of(device)
        held = conflict.holders(device, leases)
        state = "held" if held else "excluded" if device.excluded else otherwise
        if device.fault:
            state = "sick" if is_sick(device.fault) else "lost"
        found.append(
            State(
                index=gpu.index if gpu.index >= 0 else None,
                uuid=gpu.uuid,
                bus_id=gpu.bus_id,
                name=gpu.name,
                state=state,
                leases=tuple(held),
                why=why_not(device.fault) if device.fault else "",
            )
        )
    return found


def _whole(config: Config) -> list[Device]:
    devices = of_nvidia.of(snapshot.load(config).gpus, config.allocation_exclude)
    return [device for device in devices if not device.whole]


def _to_json(state: State) -> dict[str, object]:
    return {
        "index": state.index,
        "uuid": state.uuid,
        "busId": state.bus_id,
        "name": state.name,
        "state": state.state,
        "holders": [lease.name for lease in state.leases],
        "why": state.why or None,
    }


def _show(found: list[State], config: Config) -> None:
    from rich.text import Text

    from oci_gpu_hook.admin.cli.console import console, new_table, print_table

    if not found:
        print("no GPU: the driver has none")
        return
    known = Census(config)
    known.take(lease for each in found for lease in each.leases)
    out = console()
    shown = next(columns for least, columns in _COLUMNS_FROM if out.width >= least)
    table = new_table()
    for heading in shown:
        table.add_column(heading, overflow="fold", no_wrap=heading in _WHOLE)
    for each in found:
        style = {"free": "green", "sick": "red", "lost": "red"}.get(each.state, "")
        cells = {
            "GPU": Text("-" if each.index is None else str(each.index)),
            "BUS": Text(one_line(each.bus_id)),
            "PRODUCT": Text(one_line(each.name.removeprefix("NVIDIA "))),
            "STATE": Text(each.state, style=style),
            "": Text(one_line(each.why) or "\n".join(one_line(known.of_lease(lease).called) for lease in each.leases)),
        }
        table.add_row(*(cells[heading] for heading in shown))
    print_table(out, table)


def _heal(name: str, config: Config) -> int:
    """Take the mark of a GPU away, once it was reset or found to be well: requests get it again.

    The next such error of the driver marks it again.
    """
    devices = [device.replace(fault="") for device in _whole(config)]
    meant = devices if name == "all" else names.resolve((name,), devices)
    places = [of_nvidia.gpu_of(device).bus_id for device in meant]
    marks = sick.marks(config)
    if not sick.heal(places, config):
        print(f"{quoted(name)}: not marked sick")
        return 0
    for device, place in zip(meant, places, strict=True):
        if place in marks:
            print(one_line(f"{device.label} ({device.uuid}): healed"))
    return 0
