"""Finds the GPUs of a Tegra and its files for containers, as NVIDIA's container toolkit does in csv mode.

Source: nvidia-container-toolkit, pkg/nvcdi/lib-csv.go and internal/platform-support/tegra: the CSV files name nodes,
libraries, directories and links, and /etc/nv_tegra_release is added; libraries lie in containers where they lie on the
host; what the host lacks of it is passed over with a warning. The chip's GPU (nvgpu) is GPU 0 and gets the nodes of the
CSV files. A card beside it is GPU 1, gets its own nodes and those of the CSV files that are no GPU's; the chip's GPU
gets the display's /dev/nvidia2, and none of a card's nodes. The toolkit takes /dev/nvidia1 for the card's, and gives
all nodes in /dev/dri to both.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.errors import DriverError, one_line, quoted
from oci_gpu_hook.devices import pci
from oci_gpu_hook.devices.nvidia import csv_files, facts, platforms, procfs, tegra_files
from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
from oci_gpu_hook.devices.nvidia.model import Basis, Gpu, Inventory, Snapshot, pci_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.csv_files import Entry
    from oci_gpu_hook.devices.nvidia.model import Lacking
    from oci_gpu_hook.devices.nvidia.procfs import GpuInformation

_CONTROL: Final = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
_OF_CHIP: Final = ("/dev/nvgpu", "/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu")  # nodes of nvgpu, the chip's driver
# How the chip's GPU is known: NVIDIA/go-nvlib, pkg/nvlib/info (IsIntegratedGPUName); Thor's place on the bus.
_NAMES: Final = ("(nvgpu)", "NVIDIA Thor")
_THOR: Final = "00000000:01:00.0"
_DISPLAY: Final = "/dev/nvidia2"
_WITHOUT_NODES: Final = "the host has none of the device nodes that its CSV files name"
_LISTED: Final = 4


def discover(config: Config, driver: str | None) -> Snapshot | None:
    """Return what the host has; None if it is to be treated as one with cards only. Raises DriverError.

    driver: what /proc says of the driver for cards, which drives the GPU of Thor, too; None if it is not loaded.
    """
    has_driver = driver is not None
    root = DriverRoot(config.driver_root)
    dev_root = config.dev_root.rstrip("/")
    on_bus = procfs.gpus(config.proc_root)
    inside = [gpu for gpu in on_bus if _is_inside(gpu.name, gpu.bus_id)]
    if has_driver and not inside and not any(os.path.exists(dev_root + path) for path in _OF_CHIP):
        return None
    entries, wrong = csv_files.read(root)
    if not entries:
        if has_driver:
            return None
        where = quoted(root.host_path(csv_files.DIRECTORY))
        why = f"this is a Jetson (Tegra), and {where} has no CSV file that says what they get"
        why += f" ({wrong[0]})" if wrong else ""
        remedy = "install nvidia-l4t-init (JetPack 5 and later) or nvidia-container-csv-*, which bring devices.csv"
        raise DriverError("the driver's files for containers", why, remedy, "OGH1410")
    cards = [gpu for gpu in on_bus if gpu not in inside]
    nodes = [path for entry in entries if entry.kind == "dev" for path in _nodes(dev_root, entry)]
    gpus = tuple(_gpus(config, inside, cards, nodes))
    found = tegra_files.find(root, entries, dev_root)
    every_node = [path for gpu in gpus for path in gpu.nodes]
    missing = [*found.missing, *(entry for entry in entries if entry.kind == "dev" and not _nodes(dev_root, entry))]
    inventory = Inventory(
        driver_version=procfs.driver_version(driver) if driver else "",
        gpus=gpus,
        libraries=found.libraries,
        files=found.files,
        links=found.links,
        nodes=(),
        proc_files=procfs.files_for_containers(config.proc_root) if has_driver else (),
        platform=platforms.TEGRA,
        lacking=tuple(_lacking(missing)),
        warnings=wrong,
    )
    watched = [root.host_path(csv_files.DIRECTORY), *found.watched]
    watched += [f"{dev_root}{path}" for path in ("/dev/nvgpu/igpu0", "/dev/dri")]
    present = [dev_root + path for path in dict.fromkeys((*every_node, *_OF_CHIP, *_exact(entries)))]
    minors = [gpu.minor for gpu in gpus]
    candidates = {
        "of_capabilities": (),
        "of_gpus": list(dict.fromkeys(every_node)),
        "of_displays": (),
        "of_mig": (),
        "of_imex": (),
    }
    gathered = facts.gather(config, minors, watched, present)
    basis = Basis(candidates=candidates, watched=watched, present=present, facts=gathered)
    return Snapshot(inventory=inventory, basis=basis)


def _is_inside(name: str, bus_id: str) -> bool:
    return bus_id == _THOR or any(part in name for part in _NAMES)


def _gpus(
    config: Config, inside: Sequence[GpuInformation], cards: Sequence[GpuInformation], nodes: Sequence[str]
) -> Iterator[Gpu]:
    """Yield the chip's GPU, then cards. nodes: those of the CSV files that exist."""
    dev_root = config.dev_root.rstrip("/")
    places = [pci.place(config.sys_root, pci_address(gpu.bus_id)) for gpu in cards]
    of_cards = {f"/dev/nvidia{gpu.minor}" for gpu in cards} | {f"/dev/dri/{name}" for at in places for name in at.drm}
    own = [path for path in nodes if path not in of_cards]
    if cards and _DISPLAY not in of_cards and _is_node(dev_root + _DISPLAY):
        own.append(_DISPLAY)
    chip = inside[0] if inside else None
    own = list(dict.fromkeys(own))
    yield Gpu(
        index=0,
        uuid=chip.uuid if chip else "",
        minor=chip.minor if chip else -1,
        bus_id=chip.bus_id if chip else "",
        proc_name=chip.proc_name if chip else "",
        name=chip.name if chip else "",
        fault="" if own else _WITHOUT_NODES,
        nodes=tuple(own) or ("/dev/nvmap",),
    )
    others = [path for path in nodes if not _is_of_one_gpu(path) and path not in _CONTROL]
    for index, (gpu, place) in enumerate(zip(cards, places, strict=True), 1):
        drawing = [f"/dev/dri/{name}" for name in place.drm]
        mine = (f"/dev/nvidia{gpu.minor}", *_CONTROL, *drawing, *others)
        yield Gpu(
            index=index,
            uuid=gpu.uuid,
            minor=gpu.minor,
            bus_id=gpu.bus_id,
            proc_name=gpu.proc_name,
            name=gpu.name,
            numa_node=place.numa_node,
            drm=place.drm,
            nodes=tuple(dict.fromkeys(path for path in mine if _is_node(dev_root + path))),
        )


def _is_of_one_gpu(path: str) -> bool:
    return path.removeprefix("/dev/nvidia").isdecimal() or path.startswith("/dev/dri/")


def _nodes(dev_root: str, entry: Entry) -> list[str]:
    """Return the nodes that an entry names, by a pattern or without."""
    return [path for path in tegra_files.expanded(dev_root, entry.path) if _is_node(dev_root + path)]


def _is_node(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except OSError:
        return False


def _exact(entries: Sequence[Entry]) -> Iterator[str]:
    return (entry.path for entry in entries if entry.kind == "dev" and not tegra_files.is_pattern(entry.path))


def _lacking(missing: Sequence[Entry]) -> Iterator[Lacking]:
    """Yield one sentence for entries that name nothing: JetPack's files have dozens of those on every board.

    Only containers that ask for every file are warned of it.
    """
    if missing:
        listed = ", ".join(f"{quoted(entry.path)} ({one_line(entry.place)})" for entry in missing[:_LISTED])
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        yield (tegra_files.EVERY_FILE,), f"the CSV files name what this host does not have: {listed}{more}"
