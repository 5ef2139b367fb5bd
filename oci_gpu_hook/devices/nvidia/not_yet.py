"""Determines what a request needs that the host may still get. Imported only for containers that wait.

A start waits only for what it cannot do without; otherwise a host that lacks something for good would delay every
start.
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.devices import pci
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import names, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.nvidia.model import RequestInventory
    from oci_gpu_hook.devices.vendor import Request

_CONTROL: Final = "/dev/nvidiactl"
_MANAGED_MEMORY: Final = "/dev/nvidia-uvm"  # CUDA does not start without it
_DRIVERS: Final = ("", "nvidia")  # drivers of a GPU that may still become available
_UNKNOWN: Final = 1 << 30


def of(request: Request, inventory: RequestInventory, config: Config) -> str:
    """Describe what is missing and may still come, "" if nothing is."""
    if inventory.platform:  # where all there is belongs to the machine
        return ""
    there = {node.path for node in inventory.nodes}
    # A GPU without its node cannot be started, and NVML does not count it until the node exists.
    devices = [
        device if _node(device) in there else device.replace(fault="")
        for device in of_nvidia.of(inventory.gpus, config.allocation_exclude)
    ]
    wanted, missing = _devices(request, devices, config)
    if missing:
        return missing
    needed = [_CONTROL, *map(_node, wanted)]
    if "compute" in inventory.wanted:
        needed.append(_MANAGED_MEMORY)
    return ", ".join(path for path in dict.fromkeys(needed) if path not in there)


def _node(device: Device) -> str:
    return f"/dev/nvidia{of_nvidia.gpu_of(device).minor}"


def _devices(request: Request, devices: Sequence[Device], config: Config) -> tuple[Sequence[Device], str]:
    """Return the devices that a request can get, and a description of those that are missing."""
    if request.count is not None:
        profile = request.devices[0].lower() if request.devices else ""
        usable = [device for device in devices if (device.profile.lower() == profile if profile else device.countable)]
        usable = [device for device in usable if device.memory >= request.memory or not device.memory]
        usable = [device for device in usable if not (device.excluded or device.fault)]
        lacking = request.count - len(usable)
        may_come = _UNKNOWN if profile else _coming(devices, config)
        if 0 < lacking <= may_come:
            return (), f"{lacking} more of {request.count} devices"
        return usable if lacking <= 0 else (), ""
    try:
        named = names.resolve(request.devices, devices)
    except InvalidInput as error:
        may_come = not _is_lost(request, devices) and _may_come(request.devices, devices, config)
        return (), error.what if may_come else ""
    if "all" in request.devices and not named and _coming(devices, config):
        return (), "a GPU"
    return named, ""


def _is_lost(request: Request, devices: Sequence[Device]) -> bool:
    """Tell whether all named devices exist, so that one of them is lost, which waiting does not change."""
    try:
        names.resolve(request.devices, [device.replace(fault="") for device in devices])
    except InvalidInput:
        return False
    return True


def _may_come(asked: Sequence[str], devices: Sequence[Device], config: Config) -> bool:
    """Tell whether all unknown names could be devices that still come.

    An index says how many GPUs there must be. A name that identifies one device can always come.
    """
    most = len({device.index for device in devices}) + _coming(devices, config)
    return all(int(name) < most for name in asked if name.isascii() and name.isdecimal() and len(name) <= 9)


def _coming(devices: Sequence[Device], config: Config) -> int:
    """Return how many GPUs on the PCI bus have no driver yet; a large number if that is unknown."""
    known = {of_nvidia.gpu_of(device).bus_id for device in devices}
    found = {
        procfs.bus_id(address)
        for address, vendor in pci.gpus(config.sys_root)
        if vendor == pci.NVIDIA and pci.driver(config.sys_root, address) in _DRIVERS
    }
    return len(found - known) if found else _UNKNOWN
