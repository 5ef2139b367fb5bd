"""Prints the inventory: tables where they fit the terminal, otherwise lines, so that no index and no UUID is cut."""

from __future__ import annotations

from oci_gpu_hook.admin.cli.console import fits, hanging, new_table, print_table
from oci_gpu_hook.base.errors import one_line
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.model import is_sick
from oci_gpu_hook.devices.nvidia.platforms import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from rich.console import Console
    from rich.table import Table

    from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, MigDevice

_GIB: Final = 1 << 30
_UUID: Final = 40  # characters of GPU-… and MIG-…
_SAME: Final = "self"
# The connections of two GPUs, the closest first, in the words of nvidia-smi topo.
_LEGEND: Final = {
    "NV": "NVn: n NVLinks",
    "PIX": "PIX: one PCIe switch",
    "NODE": "NODE: one NUMA node",
    "SYS": "SYS: across NUMA nodes",
}
_ALWAYS: Final = "always"


def show(inventory: Inventory, out: Console) -> None:
    """Print everything."""
    from rich.text import Text

    cuda = f", CUDA {inventory.cuda_version}" if inventory.cuda_version else ""
    driver = f"NVIDIA driver{f' {inventory.driver_version}' if inventory.driver_version else ''}"
    where = f" of {NAMES[inventory.platform]}" if inventory.platform else ""
    out.print(Text(f"{driver}{where}{cuda}, {_count(inventory.gpus, 'GPU')}", style="bold"))
    if inventory.gpus:
        out.print()
        _show_gpus(inventory.gpus, out)
    working = [gpu for gpu in inventory.gpus if not gpu.fault]
    if len(working) > 1:
        _show_links(working, out)
    out.print()
    print_table(out, _file_table(inventory))
    for path, capabilities in inventory.missing_nodes:
        out.print(Text(f"note: the host has no {path}, which {'/'.join(capabilities) or 'every container'} would use"))
    for gpu in inventory.gpus:
        if gpu.fault:
            who = "GPU" if is_sick(gpu.fault) else "the driver has lost the GPU"
            out.print(Text(f"error: {who} at {gpu.bus_id}: {gpu.fault}", style="red"))
    for warning in inventory.warnings:
        out.print(Text(f"warning: {one_line(warning)}", style="yellow"))


def show_described(rows: Sequence[tuple[str, ...]], trouble: str, out: Console, *, first: bool = False) -> None:
    """Print the devices of other vendors: name, other names, nodes, what they are.

    trouble: of reading some. first: whether nothing is above them.
    """
    from rich.text import Text

    if rows:
        table = new_table()
        for title in ("DEVICE", "ALSO", "NODES", "WHAT"):
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*(Text(one_line(cell)) for cell in row))
        if not first:
            out.print()
        print_table(out, table)
    if trouble:
        out.print(Text(f"warning: {one_line(trouble)}", style="yellow"))


def show_files(inventory: Inventory) -> None:
    """Print every file and node of the driver: capabilities that bring it, kind and path, separated by tabs."""
    for capabilities, kind, path in sorted(_files(inventory)):
        print(f"{'/'.join(capabilities) or _ALWAYS}\t{kind}\t{one_line(path)}")


def relation(one: Gpu, other: Gpu) -> str:
    """Return how close two GPUs are: `NV18`, `PIX`, `NODE` or `SYS`; "" if it is unknown."""
    links = dict(one.links).get(other.index, 0)
    if links:
        return f"NV{links}"
    if one.pcie_switch and one.pcie_switch == other.pcie_switch:
        return "PIX"
    if one.numa_node is None or other.numa_node is None:
        return ""
    return "NODE" if one.numa_node == other.numa_node else "SYS"


def memory(size: int) -> str:
    """Return an amount of bytes for people, "" for 0."""
    return f"{size / _GIB:.0f} GiB" if size else ""


def short_bus_id(bus_id: str) -> str:
    """Return a bus id in the form of lspci, with four digits for the domain if they suffice."""
    return bus_id.removeprefix("0000") if bus_id.startswith("00000000:") else bus_id


class _Row(Record):
    """What is shown of a GPU or a MIG device. places: on the bus, or of the instances. modes: that a GPU is in."""

    index: str
    product: str
    uuid: str
    memory: str
    places: tuple[str, ...]
    modes: tuple[str, ...] = ()
    is_part: bool = False


def _show_gpus(gpus: Sequence[Gpu], out: Console) -> None:
    """Print a table of two lines for each device or, where that is wider than the terminal, three short lines."""
    from rich.text import Text

    rows = [row for gpu in gpus for row in (_of_gpu(gpu), *(_of_mig(gpu, device) for device in gpu.mig_devices))]
    table = _gpu_table(rows)
    if fits(out, table):
        print_table(out, table)
        return
    for row in rows:
        amount = f", {row.memory}" if row.memory else ""
        out.print(Text(f"GPU {row.index}  {row.product}{amount}", style="bold"))
        for line in (row.uuid, "  ".join((*row.places, *row.modes))):
            hanging(out, "  ", line)


def _gpu_table(rows: Sequence[_Row]) -> Table:
    from rich.text import Text

    table = new_table()
    table.add_column("GPU", no_wrap=True)
    table.add_column("PRODUCT, UUID", no_wrap=True, max_width=_UUID)
    table.add_column("MEMORY", no_wrap=True, justify="right")
    table.add_column("PCI, NUMA", no_wrap=True)
    table.add_column("MODES", no_wrap=True)
    for row in rows:
        name = Text.assemble((row.product, "" if row.is_part else "bold"), f"\n{row.uuid}")
        table.add_row(row.index, name, row.memory, "\n".join(row.places), "\n".join(row.modes))
    return table


def _of_gpu(gpu: Gpu) -> _Row:
    places = [short_bus_id(gpu.bus_id), "NUMA ?" if gpu.numa_node is None else f"NUMA {gpu.numa_node}"]
    modes = [f"persist {_switch(gpu.persistence_mode)}", f"MIG {_switch(gpu.mig_enabled)}"]
    if gpu.fault:
        modes = ["sick" if is_sick(gpu.fault) else "lost"]
    elif not gpu.bus_id:  # of WSL 2, and of a Tegra's chip: without either mode, and on no bus
        places = modes = []
    return _Row(
        index=str(gpu.index) if gpu.index >= 0 else "-",
        product=one_line(gpu.name) or "unknown product",
        uuid=one_line(gpu.uuid),
        memory=memory(gpu.memory),
        places=tuple(places),
        modes=tuple(modes),
    )


def _of_mig(gpu: Gpu, device: MigDevice) -> _Row:
    return _Row(
        index=f"{gpu.index}:{device.index}",
        product=f"MIG {one_line(device.profile) or 'device'}",
        uuid=one_line(device.uuid),
        memory=memory(device.memory),
        places=(f"GI {device.gpu_instance}", f"CI {device.compute_instance}"),
        is_part=True,
    )


def _switch(on: bool | None) -> str:  # noqa: FBT001
    return "?" if on is None else "on" if on else "off"


def _show_links(gpus: Sequence[Gpu], out: Console) -> None:
    """Print the relations of all pairs of GPUs, unless the table is wider than the terminal."""
    from rich.text import Text

    table = new_table()
    table.add_column("LINKS", no_wrap=True)
    seen = set()
    for gpu in gpus:
        table.add_column(str(gpu.index), no_wrap=True)
    for gpu in gpus:
        relations = [_SAME if gpu.index == other.index else relation(gpu, other) or "?" for other in gpus]
        seen |= {found.rstrip("0123456789") for found in relations}
        table.add_row(f"GPU {gpu.index}", *relations)
    out.print()
    if not fits(out, table):
        hanging(out, "", "The table of links is wider than this terminal: see `oci-gpu info --json`")
        return
    print_table(out, table)
    out.print(Text("; ".join(text for kind, text in _LEGEND.items() if kind in seen)))


def _file_table(inventory: Inventory) -> Table:
    """Count what each capability brings; files of several capabilities are counted for each."""
    kinds = ("library", "32-bit library", "file", "node")
    counts: dict[str, dict[str, int]] = {}
    for capabilities, kind, _ in _files(inventory):
        for capability in capabilities or (_ALWAYS,):
            counts.setdefault(capability, dict.fromkeys(kinds, 0))[kind] += 1
    table = new_table()
    table.add_column("CAPABILITY")
    for heading in ("LIBS", "32-BIT", "FILES", "NODES"):
        table.add_column(heading, justify="right")
    for capability in sorted(counts, key=lambda name: (name != _ALWAYS, name)):
        table.add_row(capability, *(str(counts[capability][kind] or "") for kind in kinds))
    return table


def _files(inventory: Inventory) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield capabilities, kind and path of everything that containers are given."""
    for library in inventory.libraries:
        yield library.capabilities, "library" if library.bits == 64 else "32-bit library", library.host_path
    for file in inventory.files:
        yield file.capabilities, "file", file.host_path
    granted = {path for gpu in inventory.gpus for path in gpu.nodes or (f"/dev/nvidia{gpu.minor}",)}
    for node in inventory.nodes:
        if node.path not in granted and (node.capabilities or node.path == "/dev/nvidiactl"):
            yield node.capabilities, "node", node.host_path


def _count(things: Iterable[object], name: str) -> str:
    count = len(tuple(things))
    return f"{count} {name}" + ("" if count == 1 else "s")
