"""What of what a request needs the host does not have and may still get. Imported only for containers that wait.

Only what a start cannot do without is waited for, or else a host that lacks something for good would delay every start.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.base.files import read_text
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import names, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.nvidia.model import RequestInventory
    from oci_gpu_hook.devices.vendor import Request

_CONTROL: Final = "/dev/nvidiactl"
_MANAGED_MEMORY: Final = "/dev/nvidia-uvm"  # CUDA does not start without it
_NVIDIA: Final = "0x10de"
_DISPLAY_CLASS: Final = "0x03"  # VGA and 3D controllers (PCI code and ID assignment specification)
_UNKNOWN: Final = 1 << 30


def of(request: Request, inventory: RequestInventory, config: Config) -> str:
    """Say what is missing and may still come, "" for nothing."""
    devices = of_nvidia.of(inventory.gpus, config.allocation_exclude)
    wanted, missing = _devices(request, devices, config)
    if missing:
        return missing
    there = {node.path for node in inventory.nodes}
    needed = [_CONTROL, *(f"/dev/nvidia{of_nvidia.gpu_of(device).minor}" for device in wanted)]
    if "compute" in inventory.wanted:
        needed.append(_MANAGED_MEMORY)
    return ", ".join(path for path in dict.fromkeys(needed) if path not in there)


def _devices(request: Request, devices: Sequence[Device], config: Config) -> tuple[Sequence[Device], str]:
    """Return the devices that a request may be given, and what it says of devices that are missing."""
    if request.count is not None:
        profile = request.devices[0].lower() if request.devices else ""
        usable = [device for device in devices if (device.profile.lower() == profile if profile else device.countable)]
        usable = [device for device in usable if device.memory >= request.memory and not device.excluded]
        lacking = request.count - len(usable)
        may_come = _UNKNOWN if profile else _coming(devices, config)
        if 0 < lacking <= may_come:
            return (), f"{lacking} more of {request.count} devices"
        return usable, ""
    try:
        named = names.resolve(request.devices, devices)
    except InvalidInput as error:
        return (), error.what if _may_come(request.devices, devices, config) else ""
    if "all" in request.devices and not named and _coming(devices, config):
        return (), "a GPU"
    return named, ""


def _may_come(asked: Sequence[str], devices: Sequence[Device], config: Config) -> bool:
    """Tell whether all that is named and unknown could be a device that comes.

    An index says how many GPUs there would have to be. What names one device for good can always come.
    """
    most = len({device.index for device in devices}) + _coming(devices, config)
    return all(int(name) < most for name in asked if name.isascii() and name.isdecimal() and len(name) <= 9)


def _coming(devices: Sequence[Device], config: Config) -> int:
    """Return how many GPUs on the PCI bus no driver has taken yet; many where nobody can tell."""
    known = {of_nvidia.gpu_of(device).bus_id for device in devices}
    directory = f"{config.sys_root}/bus/pci/devices"
    try:
        addresses = os.listdir(directory)
    except OSError:
        return _UNKNOWN
    found = {procfs.bus_id(address) for address in _gpus(directory, addresses)}
    return len(found - known) if found else _UNKNOWN


def _gpus(directory: str, addresses: Sequence[str]) -> Iterator[str]:
    for address in addresses:
        vendor = read_text(f"{directory}/{address}/vendor") or ""
        kind = read_text(f"{directory}/{address}/class") or ""
        if vendor.strip() != _NVIDIA or not kind.startswith(_DISPLAY_CLASS):
            continue
        try:
            driver = os.path.basename(os.readlink(f"{directory}/{address}/driver"))
        except OSError:
            driver = ""
        if driver in ("", "nvidia"):
            yield address
