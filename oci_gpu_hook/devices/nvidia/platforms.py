"""NVIDIA GPUs without its Linux driver for cards: WSL 2 and Tegra. Which of them a host is, and what it cannot do.

Imported only on such hosts, and where discovery finds no driver. On them a GPU has other nodes than /dev/nvidiaN, and
files lie in containers where they lie on the host, whatever driver capabilities are asked for, as with NVIDIA's
toolkit (nvidia-container-toolkit, pkg/nvcdi: lib-wsl.go, lib-csv.go).
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import InvalidInput, one_line, quoted
from oci_gpu_hook.base.files import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, RequestInventory
    from oci_gpu_hook.devices.vendor import Request

WSL: Final = "wsl2"
TEGRA: Final = "tegra"
NAMES: Final = {WSL: "WSL 2", TEGRA: "Jetson (Tegra)"}
DXG: Final = "/dev/dxg"
# Where a Tegra says that it is one: NVIDIA/go-nvlib, pkg/nvlib/info/property-extractor.go; the device tree's strings.
_RELEASE: Final = "/etc/nv_tegra_release"
_FAMILY: Final = "devices/soc0/family"
_DEVICE_TREE: Final = "firmware/devicetree/base/compatible"


def is_wsl(config: Config) -> bool:
    """Tell whether Windows gives this machine its GPUs."""
    return os.path.exists(config.dev_root.rstrip("/") + DXG)


def is_tegra(config: Config) -> bool:
    """Tell whether files, nodes or the device tree say that this machine is a Tegra."""
    dev = f"{config.dev_root.rstrip('/')}/dev"
    if any(map(os.path.exists, (f"{config.driver_root.rstrip('/')}{_RELEASE}", f"{dev}/nvmap", f"{dev}/nvgpu"))):
        return True
    if (read_text(f"{config.sys_root}/{_FAMILY}") or "").lower().startswith("tegra"):
        return True
    words = (read_text(f"{config.sys_root}/{_DEVICE_TREE}") or "").split("\0")
    return any(word.startswith("nvidia,tegra") for word in words)


def complete(inventory: Inventory, answer: Mapping[str, Any]) -> Inventory:
    """Return the inventory with what NVML answers about GPUs that have no place on a PCI bus. Pure."""
    told = [gpu for gpu in answer["gpus"] if gpu.get("uuid")]
    gpus = _together(inventory.gpus, told) if inventory.platform == WSL else _each(inventory.gpus, told)
    return inventory.replace(
        driver_version=answer["driverVersion"], cuda_version=answer["cudaVersion"], gpus=gpus, detailed=True
    )


def _together(gpus: Sequence[Gpu], told: Sequence[Mapping[str, Any]]) -> tuple[Gpu, ...]:
    """Return the one device of WSL 2: the only GPU, or all of them."""
    if len(told) == 1:
        return (_named(gpus[0], told[0]),)
    names = ", ".join(one_line(str(gpu.get("name", "GPU"))) for gpu in told)
    return (gpus[0].replace(name=f"{len(told)} GPUs of Windows: {names}"),) if told else tuple(gpus)


def _each(gpus: Sequence[Gpu], told: Sequence[Mapping[str, Any]]) -> tuple[Gpu, ...]:
    """Return a Tegra's GPUs: that of the chip first, which NVML numbers 0, then cards by their places on the bus."""
    cards = {gpu["busId"]: gpu for gpu in told if "busId" in gpu}
    inside = [gpu for gpu in told if gpu.get("busId") not in {gpu.bus_id for gpu in gpus if gpu.bus_id}]
    found = []
    for gpu in gpus:
        known = cards.get(gpu.bus_id) if gpu.bus_id else next(iter(inside), None)
        found.append(_named(gpu, known) if known else gpu)
    return tuple(found)


def _named(gpu: Gpu, told: Mapping[str, Any]) -> Gpu:
    return gpu.replace(
        uuid=told.get("uuid") or gpu.uuid,
        name=one_line(str(told.get("name") or gpu.name)),
        brand=told.get("brand", ""),
        architecture=told.get("architecture", ""),
        memory=told.get("memory", 0),
    )


def check(request: Request, inventory: RequestInventory) -> None:
    """Raise InvalidInput for a choice that WSL 2 does not have: its GPUs have one node together."""
    if inventory.platform != WSL:
        return
    gpu = inventory.gpus[0]
    single = gpu.uuid != WSL
    remedy = "ask for all (NVIDIA_VISIBLE_DEVICES=all)"
    if request.count is not None:
        if not request.count or (single and request.count == 1 and not request.devices):
            return
        what = f"{request.count} GPU{'s' * (request.count != 1)} asked for by count"
        raise InvalidInput(what, _why(gpu, single=single), remedy, "OGH1224")
    served = ("all", gpu.uuid.lower(), *(("0",) if single else ()))
    for name in filter(None, request.devices):
        if name.lower() not in served:
            raise InvalidInput(f"GPU {quoted(name)}", _why(gpu, single=single), remedy, "OGH1224")


def _why(gpu: Gpu, *, single: bool) -> str:
    if single:
        return f"this WSL 2 has one GPU: 0, {quoted(gpu.uuid)}"
    known = f"there are {gpu.name.partition(':')[0]}" if gpu.name else "NVML does not tell how many there are"
    return f"WSL 2 shows a container all GPUs of Windows or none ({DXG}), and {known}"
