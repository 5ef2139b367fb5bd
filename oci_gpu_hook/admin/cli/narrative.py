"""Prints a plan for people: what is asked for, given and not given, and why; or why the container would not start."""

from __future__ import annotations

from oci_gpu_hook.admin.cli import described, explain
from oci_gpu_hook.admin.cli.console import console, fits, hanging, new_table, print_table
from oci_gpu_hook.admin.cli.request import described as asked_for
from oci_gpu_hook.base.errors import coded, one_line
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import ContainerEdits
from oci_gpu_hook.devices.nvidia import devices as of_nvidia

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from rich.console import Console

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.base.errors import HookError
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.plan.plan import Plan
    from oci_gpu_hook.request.model import Request

_TEXT_LAST: Final = 2  # columns of a table whose last one is wrapped text
_LABEL: Final = 21  # columns, as in `oci-gpu request`


class Preview(Record):
    """A plan, and what it was made from. held: the leases of others, None if they cannot be read.

    inventory: None where no GPU of NVIDIA's is asked for. described: what CDI specifications bring of the plan.
    """

    container: Container
    config: Config
    inventory: Inventory | None
    held: tuple[Lease, ...] | None
    plan: Plan
    described: ContainerEdits = ContainerEdits()


def show(seen: Preview, *, files: bool) -> None:
    """Print a plan."""
    out = console()
    _asked(out, seen.plan.request, seen.container, seen.config)
    _title(out, "Gets")
    if seen.inventory is not None:
        _show_gpus(out, seen, seen.inventory, files=files)
    _show_described(out, seen)
    _warnings(out, seen.plan.warnings)


def shares(seen: Preview) -> dict[str, object]:
    """Return the member `shares` of `oci-gpu plan --json`: what is got of each GPU, and what is left then."""
    request = seen.plan.request
    if not request.is_share:
        return {}
    parts = {}
    for device in seen.plan.devices:
        rest = explain.rest(request, device, seen.held) if seen.held is not None else (None, None)
        left = dict(zip(("memoryLeft", "coresLeft"), rest, strict=True))
        parts[device.uuid] = {"memory": request.memory_limit, "cores": request.cores, **left}
    return {"shares": parts}


def _show_gpus(out: Console, seen: Preview, inventory: Inventory, *, files: bool) -> None:
    made = described.native_part(seen.plan, seen.described)
    of_host = of_nvidia.of(inventory.gpus, seen.config.allocation_exclude, seen.config.sharing_reserve)
    for line in explain.gpus(made.request, of_host, made.devices, seen.held) if made.devices else ("no GPU",):
        hanging(out, "  ", one_line(line))
    cuda = f", CUDA {inventory.cuda_version}" if inventory.cuda_version else ""
    version = inventory.driver_version or "of unknown version"
    hanging(out, "  ", f"of NVIDIA driver {version}{cuda}")
    for decision in made.decisions:
        hanging(out, "  ", one_line(decision))
    _title(out, "Device nodes, and the right to read and write them")
    _rows(out, explain.nodes(made, inventory))
    _mounted(out, made, inventory, files=files)
    skipped = list(explain.skipped(made, inventory, seen.config))
    if skipped:
        _title(out, "Not given")
        _rows(out, skipped)


def _show_described(out: Console, seen: Preview) -> None:
    """Print the devices that CDI specifications describe, and all that they bring."""
    devices = [device for device in seen.plan.devices if device.kind not in vendors.KINDS]
    if seen.inventory is None:
        for line in list(described.in_words(devices, seen.config)) or ["no device"]:
            hanging(out, "  ", line)
        for decision in seen.plan.decisions:
            hanging(out, "  ", one_line(decision))
    if seen.described != ContainerEdits():
        _title(out, "As the kernel and CDI specifications describe them")
        if seen.inventory is not None:
            for line in described.in_words(devices, seen.config):
                hanging(out, "  ", line)
        _rows(out, described.edits_in_words(seen.described))


def show_nothing(container: Container, config: Config, warnings: Sequence[str]) -> None:
    """Print that a container asks for nothing, with warnings about what its author may have meant."""
    out = console()
    hanging(out, "", "The container asks for no GPU; the hook would leave it as it is.")
    for text in explain.sayings(container, config):
        hanging(out, "  ", one_line(text))
    _warnings(out, warnings)


def show_failure(container: Container, config: Config, request: Request | None, error: HookError) -> None:
    """Print that a container would not start, and the line that its engine would show."""
    from rich.text import Text

    out = console()
    _asked(out, request, container, config)
    _title(out, "The container would not start; the engine would show")
    out.print(Text(f"  oci-gpu-hook: error: {coded(str(error), error.code)}", style="red"), soft_wrap=True)


def _asked(out: Console, request: Request | None, container: Container, config: Config) -> None:
    _title(out, "Asks for", first=True)
    for line in asked_for(request) if request else ():
        hanging(out, f"  {line[:_LABEL]} ", one_line(line[_LABEL + 1 :]))
    label = "in config.json:"
    for text in explain.sayings(container, config):
        hanging(out, f"  {label:{_LABEL}} ", one_line(text))
        label = ""


def _mounted(out: Console, made: Plan, inventory: Inventory, *, files: bool) -> None:
    _title(out, "Mounted from the host, read-only except for sockets")
    found = explain.mounts(made, inventory)
    _rows(out, ((reason, f"{len(paths)} file{'s' * (len(paths) != 1)}") for reason, paths in found.items()))
    libc = made.image.libc or "no C library known here"
    where = f"{made.image.library_directory} (the image has {libc})"
    if inventory.platform:
        where = "the paths that they have on the host"
    hanging(out, "  ", f"libraries go to {where};")
    links, cached = len(made.links), len({library.path for library in made.ld_cache})
    hanging(out, "  ", f"{links} links lead to them, and {cached} names are put into the image's ld cache")
    if files:
        for reason, paths in found.items():
            _title(out, f"Files of {reason}")
            _rows(out, ((path,) for path in paths))
        _title(out, "Links")
        _rows(out, ((link.path, f"-> {link.target}") for link in made.links))
        _title(out, "ld cache")
        _rows(out, ((library.name, f"=> {library.path}") for library in made.ld_cache))


def _warnings(out: Console, warnings: Sequence[str]) -> None:
    if warnings:
        _title(out, "Warnings")
    for text in warnings:
        hanging(out, "  ", one_line(text), "yellow")


def _title(out: Console, text: str, *, first: bool = False) -> None:
    from rich.text import Text

    if not first:
        out.print()
    out.print(Text(text, style="bold"))


def _rows(out: Console, rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns, or as lines where these do not fit; the second of two takes the remaining width."""
    from rich.text import Text

    table = new_table()
    table.show_header = False
    found = [*rows]
    longest = max((len(cells[0]) for cells in found), default=0)
    table.add_column(overflow="fold", no_wrap=longest <= out.width // 2)
    for _ in range(max(map(len, found), default=1) - 1):
        table.add_column(overflow="fold")
    for cells in found:
        table.add_row(Text(one_line(f"  {cells[0]}")), *(Text(one_line(cell)) for cell in cells[1:]))
    if len(table.columns) > _TEXT_LAST and not fits(out, table):
        for cells in found:
            hanging(out, "  ", "  ".join(map(one_line, cells)))
        return
    print_table(out, table)
