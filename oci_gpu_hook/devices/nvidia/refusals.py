"""What is said of devices that this host does not have. Imported only to word a refusal."""

from __future__ import annotations

from difflib import get_close_matches

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.devices.nvidia.devices import everything, gpu_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.devices.model import Device

_LISTED: Final = 8  # devices that a message names one by one


def unknown(name: str, devices: Sequence[Device]) -> InvalidInput:
    """Refuse a name that no device has, with the nearest that one has."""
    usable = everything(devices)
    whole = [device for device in devices if not device.whole]
    known = {device.uuid.lower(): device.uuid for device in whole}
    known |= {gpu_of(device).bus_id.lower(): gpu_of(device).bus_id for device in whole}
    known |= {device.uuid.lower(): device.uuid for device in usable}
    if any(device.profile.lower() == name.lower() for device in usable if device.whole):
        remedy = "a MIG profile is asked for by count: set io.oci-gpu-hook.count as well"
    elif nearest := get_close_matches(name.lower(), known, n=1, cutoff=0.7):
        remedy = f"did you mean {known[nearest[0]]}?"
    else:
        remedy = "name one of these or 'all'" if usable else "oci-gpu doctor tells why"
    return InvalidInput(f"unknown device {quoted(name)}", f"this host has {_list(usable)}", remedy)


def no_profile(profile: str, devices: Iterable[Device]) -> InvalidInput:
    """Refuse a MIG profile that none of the MIG devices of this host has."""
    profiles = sorted({device.profile for device in devices if device.whole})
    why = f"this host has MIG devices of {', '.join(profiles)}" if profiles else "this host has no MIG device"
    remedy = "ask for one of these profiles" if profiles else "make MIG devices with nvidia-smi, or ask for GPUs"
    return InvalidInput(f"MIG profile {quoted(profile)}", why, remedy)


def _list(devices: Sequence[Device]) -> str:
    if not devices:
        return "no GPU"
    listed = [f"{device.label} ({device.uuid})" for device in devices[:_LISTED]]
    if len(devices) > _LISTED:
        listed.append(f"{len(devices) - _LISTED} more")
    return ", ".join(listed)
