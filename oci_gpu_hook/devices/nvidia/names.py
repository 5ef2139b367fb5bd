"""Resolves the names in a request to devices of this host. Pure.

The names are those of NVIDIA's libnvidia-container 1.x (src/cli/common.c, select_devices): a GPU's index, UUID or PCI
bus id; a MIG device's UUID or `GPU:MIG` indices; `all`. Letter case and repetitions do not matter.
"""

from __future__ import annotations

from oci_gpu_hook.devices.nvidia.devices import everything, native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.devices.model import Device

_HEX: Final = frozenset("0123456789abcdef")


def resolve(names: Iterable[str], devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return the named devices, in the order of the names.

    Raises InvalidInput for an unknown name, and for a device that the driver has lost.
    """
    wanted = {name: name.lower() for name in names if name}  # NVIDIA's hook turns "0,0" into ",0"
    if "all" in wanted.values():
        working = everything(devices)
        if not working and devices:
            from oci_gpu_hook.devices.nvidia import refusals

            raise refusals.none_works(devices)
        return tuple([device for device in working if not device.excluded])
    found: dict[str, Device] = {}
    for name, lower in wanted.items():
        device = find(lower, devices)
        if device is None:
            from oci_gpu_hook.devices.nvidia import refusals

            raise refusals.unknown(name, devices)
        if device.fault:
            from oci_gpu_hook.devices.nvidia import refusals

            raise refusals.lost(name, device)
        found.setdefault(device.uuid, device)
    return tuple(found.values())


def find(name: str, devices: Sequence[Device]) -> Device | None:
    """Return the device with a name, whether it works or not."""
    name = name.lower()
    return _gpu(name, devices) or _mig(name, devices)


def of_mig(name: str) -> bool:
    """Tell whether a name means a MIG device, which only NVML can resolve."""
    return name[:4].lower() == "mig-" or name.count(":") == 1


def _gpu(name: str, devices: Sequence[Device]) -> Device | None:
    index = _number(name)
    address = _bus_id(name) if ":" in name else ""
    for device in devices:
        if device.whole:
            continue
        if device.index == index or device.uuid.lower() == name:
            return device
        if address and native(device)[0].bus_id.lower() == address:
            return device
    return None


def _bus_id(name: str) -> str:
    """Return a PCI address `DOMAIN:BUS:DEVICE[.0]` in the inventory's form, `00000000:00:06.0`; "" if it is not one."""
    parts = name.removesuffix(".0").split(":")
    widths = (8, 2, 2)
    if len(parts) != len(widths):
        return ""
    for part, width in zip(parts, widths, strict=True):
        if not 0 < len(part) <= width or not _HEX.issuperset(part):
            return ""
    domain, bus, device = parts
    return f"{domain:0>8}:{bus:0>2}:{device:0>2}.0"


def _mig(name: str, devices: Sequence[Device]) -> Device | None:
    first, _, second = name.partition(":")
    indices = (_number(first), _number(second))
    for device in devices:
        if not device.whole:
            continue
        gpu, mig = native(device)
        # Drivers before 470 built a MIG device's UUID from its GPU's.
        composed = f"mig-{gpu.uuid.lower()}/{mig.gpu_instance}/{mig.compute_instance}" if mig else ""
        if name in (device.uuid.lower(), composed) or indices == device.position:
            return device
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None
