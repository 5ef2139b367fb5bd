"""From the names of a request to the devices of this host. Pure.

The names are those of NVIDIA's libnvidia-container 1.x (src/cli/common.c, select_devices): a GPU's index, UUID
or PCI bus id; a MIG device's UUID or `GPU:MIG` indices; `all`. Letter case does not matter, and neither do repetitions.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.model import Granted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory

_HEX: Final = frozenset("0123456789abcdef")


def resolve(names: Iterable[str], inventory: Inventory) -> tuple[Granted, ...]:
    """Return the devices that are named, in the order of the names. Raises InvalidInput for a name that is none's."""
    wanted = {name: name.lower() for name in names if name}  # NVIDIA's hook writes "0,0" as ",0"
    if "all" in wanted.values():
        return everything(inventory)
    found: dict[str, Granted] = {}
    for name, lower in wanted.items():
        device = _gpu(lower, inventory) or _mig(lower, inventory)
        if device is None:
            from oci_gpu_hook.allocation import messages

            raise messages.unknown(name, inventory)
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
    return parts(gpu) if gpu.mig_enabled else []


def parts(gpu: Gpu) -> list[Granted]:
    """Return every MIG device that a GPU has."""
    return [Granted(gpu=gpu, mig=mig) for mig in gpu.mig_devices]


def of_mig(name: str) -> bool:
    """Tell whether a name is that of a MIG device, which only NVML can resolve."""
    return name[:4].lower() == "mig-" or name.count(":") == 1


def label(device: Granted) -> str:
    """Return the short name of a device: `GPU 0`, or `MIG 0:1` for the second MIG device of GPU 0."""
    return f"MIG {device.gpu.index}:{device.mig.index}" if device.mig else f"GPU {device.gpu.index}"


def _gpu(name: str, inventory: Inventory) -> Granted | None:
    index = _number(name)
    address = _bus_id(name) if ":" in name else ""
    for gpu in inventory.gpus:
        if gpu.index == index or gpu.uuid.lower() == name or (address and gpu.bus_id.lower() == address):
            return Granted(gpu=gpu)
    return None


def _bus_id(name: str) -> str:
    """Return a PCI address `DOMAIN:BUS:DEVICE[.0]` as the inventory writes it, `00000000:00:06.0`; "" if it is none."""
    parts = name.removesuffix(".0").split(":")
    widths = (8, 2, 2)
    if len(parts) != len(widths):
        return ""
    for part, width in zip(parts, widths, strict=True):
        if not 0 < len(part) <= width or not _HEX.issuperset(part):
            return ""
    domain, bus, device = parts
    return f"{domain:0>8}:{bus:0>2}:{device:0>2}.0"


def _mig(name: str, inventory: Inventory) -> Granted | None:
    first, _, second = name.partition(":")
    indices = (_number(first), _number(second))
    for gpu in inventory.gpus:
        for device in mig_devices(gpu):
            mig = device.mig
            if mig is None:
                continue
            # Drivers before 470 composed a MIG device's UUID from its parent's.
            composed = f"mig-{gpu.uuid.lower()}/{mig.gpu_instance}/{mig.compute_instance}"
            if name in (mig.uuid.lower(), composed) or indices == (gpu.index, mig.index):
                return device
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None
