"""What sysfs shows of the use of AMD's and Intel's GPUs, for commands.

Source: Linux, Documentation/gpu/amdgpu/thermal.rst and drivers/gpu/drm/amd/pm/amdgpu_pm.c (gpu_busy_percent,
mem_busy_percent, mem_info_vram_used), Documentation/hwmon/sysfs-interface.rst, Documentation/ABI/testing/
sysfs-driver-intel-i915-hwmon and -xe-hwmon. Intel's drivers tell no utilization there, and neither which process uses a
GPU. Of a GPU that is divided the figures are of no one part, and are left out.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.files import number_in, read_text
from oci_gpu_hook.devices.cdi.devices import native
from oci_gpu_hook.devices.use import DeviceUse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device

_POWER: Final = ("power1_average", "power1_input")  # microwatts
_POWER_LIMIT: Final = ("power1_cap", "power1_max")
_TEMPERATURE: Final = ("temp1_input", "temp2_input")  # thousandths of a degree
_PARTITION: Final = "current_compute_partition"
_WHOLE: Final = ("", "SPX")  # the mode of a GPU that is not divided


def of(devices: Sequence[Device], config: Config) -> dict[str, DeviceUse]:
    """Return the use of those devices of which sysfs shows anything, by their UUIDs."""
    found = {}
    for device in devices:
        directory = _directory(device, config.sys_root)
        if not directory or (read_text(f"{directory}/{_PARTITION}") or "").strip() not in _WHOLE:
            continue
        use = _use(device.uuid, directory)
        if use != DeviceUse(uuid=device.uuid):
            found[device.uuid] = use
    return found


def _directory(device: Device, sys_root: str) -> str:
    """Return the directory in sysfs of a device that is not several others, "" for none."""
    known = native(device)
    if known.covers:
        return ""
    names = [os.path.basename(node.path) for node in known.described[0].edits.device_nodes]
    return next((f"{sys_root}/class/drm/{name}/device" for name in names if name.startswith(("card", "renderD"))), "")


def _use(uuid: str, directory: str) -> DeviceUse:
    monitor = _monitor(directory)
    power, limit = (_first(monitor, names) for names in (_POWER, _POWER_LIMIT))
    temperature = _first(monitor, _TEMPERATURE)
    return DeviceUse(
        uuid=uuid,
        utilization=_number(f"{directory}/gpu_busy_percent"),
        memory_utilization=_number(f"{directory}/mem_busy_percent"),
        memory_used=_number(f"{directory}/mem_info_vram_used"),
        memory_total=_number(f"{directory}/mem_info_vram_total"),
        power=None if power is None else power / 1_000_000,
        power_limit=None if limit is None else limit / 1_000_000,
        temperature=None if temperature is None else temperature // 1000,
    )


def _monitor(directory: str) -> str:
    """Return the device's directory of sensors, "" for none."""
    try:
        names = sorted(os.listdir(f"{directory}/hwmon"))
    except OSError:
        return ""
    return f"{directory}/hwmon/{names[0]}" if names else ""


def _first(monitor: str, names: Sequence[str]) -> int | None:
    numbers = [_number(f"{monitor}/{name}") for name in names] if monitor else []
    return next((number for number in numbers if number is not None), None)


def _number(path: str) -> int | None:
    return number_in(read_text(path))
