"""From the names of a request to the devices of this host. Pure.

The names are those of NVIDIA's libnvidia-container 1.x (src/cli/common.c, select_devices): a GPU's index, UUID
or PCI bus id; a MIG device's UUID or `GPU:MIG` indices; `all`. Letter case does not matter, and neither do repetitions.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.model import Granted
from oci_gpu_hook.errors import InvalidInput, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from oci_gpu_hook.inventory.model import Gpu, Inventory

_LISTED: Final = 8  # devices that a message names one by one
_HEX: Final = frozenset("0123456789abcdef")


def resolve(names: Iterable[str], inventory: Inventory) -> tuple[Granted, ...]:
    """Return the devices that are named, in the order of the names. Raises InvalidInput for a name that is none's."""
    wanted = [name for name in names if name]  # NVIDIA's hook writes "0,0" as ",0"
    if any(name.lower() == "all" for name in wanted):
        return everything(inventory)
    found: dict[str, Granted] = {}
    for name in wanted:
        device = _gpu(name, inventory) or _mig(name, inventory)
        if device is None:
            raise _unknown(name, inventory)
        found.setdefault(device.uuid, device)
    return tuple(found.values())


def everything(inventory: Inventory) -> tuple[Granted, ...]:
    """Return what `all` means: every GPU, and in place of a GPU in MIG mode its MIG devices.

    A GPU in MIG mode without MIG devices is given whole, as NVIDIA does: so can a privileged container make them.
    """
    devices: list[Granted] = []
    for gpu in inventory.gpus:
        devices += mig_devices(gpu) or [Granted(gpu=gpu)]
    return tuple(devices)


def mig_devices(gpu: Gpu) -> list[Granted]:
    """Return the MIG devices of a GPU, none when it is not in MIG mode."""
    return [Granted(gpu=gpu, mig=mig) for mig in gpu.mig_devices] if gpu.mig_enabled else []


def of_mig(name: str) -> bool:
    """Tell whether a name is that of a MIG device, which only NVML can resolve."""
    return name[:4].lower() == "mig-" or name.count(":") == 1


def bus_id(name: str) -> str:
    """Return a PCI address `DOMAIN:BUS:DEVICE[.0]` as the inventory writes it, `00000000:00:06.0`; "" if it is none."""
    parts = name.lower().removesuffix(".0").split(":")
    if len(parts) != 3:
        return ""
    widths = (8, 2, 2)
    if any(not 0 < len(part) <= width or not _HEX.issuperset(part) for part, width in zip(parts, widths, strict=True)):
        return ""
    domain, bus, device = (part.zfill(width) for part, width in zip(parts, widths, strict=True))
    return f"{domain}:{bus}:{device}.0"


def _gpu(name: str, inventory: Inventory) -> Granted | None:
    index = _number(name)
    address = bus_id(name)
    lower = name.lower()
    for gpu in inventory.gpus:
        if gpu.index == index or gpu.uuid.lower() == lower or (address and gpu.bus_id.lower() == address):
            return Granted(gpu=gpu)
    return None


def _mig(name: str, inventory: Inventory) -> Granted | None:
    lower = name.lower()
    first, _, second = name.partition(":")
    indices = (_number(first), _number(second))
    for gpu in inventory.gpus:
        for device in mig_devices(gpu):
            mig = device.mig
            if mig is None:
                continue
            # Drivers before 470 composed a MIG device's UUID from its parent's.
            composed = f"mig-{gpu.uuid.lower()}/{mig.gpu_instance}/{mig.compute_instance}"
            if lower in (mig.uuid.lower(), composed) or indices == (gpu.index, mig.index):
                return device
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None


def _unknown(name: str, inventory: Inventory) -> InvalidInput:
    from difflib import get_close_matches  # dear, and paid by a container that fails

    devices = everything(inventory)
    known = {gpu.uuid.lower(): gpu.uuid for gpu in inventory.gpus}
    known |= {gpu.bus_id.lower(): gpu.bus_id for gpu in inventory.gpus}
    known |= {device.uuid.lower(): device.uuid for device in devices}
    if any(device.mig and device.mig.profile.lower() == name.lower() for device in devices):
        remedy = "a MIG profile is asked for by count: set io.oci-gpu-hook.count as well"
    elif nearest := get_close_matches(name.lower(), known, n=1, cutoff=0.7):
        remedy = f"did you mean {known[nearest[0]]}?"
    else:
        remedy = "name one of these or 'all'" if devices else "oci-gpu doctor tells why"
    return InvalidInput(f"unknown device {quoted(name)}", f"this host has {describe(devices)}", remedy)


def describe(devices: tuple[Granted, ...]) -> str:
    """Return a list of devices for a message, bounded."""
    if not devices:
        return "no GPU"
    names = [f"{label(device)} ({device.uuid})" for device in devices[:_LISTED]]
    if len(devices) > _LISTED:
        names.append(f"{len(devices) - _LISTED} more")
    return ", ".join(names)


def label(device: Granted) -> str:
    """Return the short name of a device: `GPU 0`, or `MIG 0:1` for the second MIG device of GPU 0."""
    return f"MIG {device.gpu.index}:{device.mig.index}" if device.mig else f"GPU {device.gpu.index}"
