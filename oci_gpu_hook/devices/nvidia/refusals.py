"""Words the errors about devices that this host lacks or cannot use. Imported only for these."""

from __future__ import annotations

from oci_gpu_hook.base.errors import DriverError, InvalidInput, quoted
from oci_gpu_hook.devices.model import is_sick, why_not
from oci_gpu_hook.devices.nvidia.devices import everything, gpu_of, of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.nvidia.model import Gpu

REMEDY_OF_LOST: Final = (
    "see dmesg for its Xid and NVRM lines; reset it (nvidia-smi -r) or restart the host, "
    "then run oci-gpu info --refresh"
)
REMEDY_OF_SICK: Final = "reset it (nvidia-smi -r) or restart the host, then run oci-gpu gpus heal"
_LISTED: Final = 8  # how many devices a message names


def unknown(name: str, devices: Sequence[Device]) -> InvalidInput:
    """Refuse a name that no device has, and suggest the most similar one."""
    from difflib import get_close_matches  # with regular expressions, as much as half a start

    usable = everything(devices)
    whole = [device for device in devices if not device.whole and not device.fault]
    known = {device.uuid.lower(): device.uuid for device in whole}
    known |= {gpu_of(device).bus_id.lower(): gpu_of(device).bus_id for device in whole}
    known |= {device.uuid.lower(): device.uuid for device in usable}
    if any(device.profile.lower() == name.lower() for device in usable if device.whole):
        remedy = "a MIG profile is asked for by count: set io.oci-gpu-hook.count as well"
    elif nearest := get_close_matches(name.lower(), known, n=1, cutoff=0.7):
        remedy = f"did you mean {known[nearest[0]]}?"
    else:
        remedy = "name one of these or 'all'" if usable else "oci-gpu doctor says why"
    return InvalidInput(
        f"unknown device {quoted(name)}", f"this host has {_list(usable)}{_lost(devices)}", remedy, "OGH1201"
    )


def lost(name: str, device: Device) -> InvalidInput:
    """Refuse a device that cannot be used."""
    what = named(gpu_of(device)) if not device.whole else f"{device.label} ({device.uuid})"
    return InvalidInput(f"{what}, asked for as {quoted(name)}", why_not(device.fault), remedy(device.fault), "OGH1222")


def remedy(fault: str) -> str:
    """Return what to do about a GPU's fault."""
    return REMEDY_OF_SICK if is_sick(fault) else REMEDY_OF_LOST


def none_works(devices: Sequence[Device]) -> InvalidInput:
    """Refuse `all` on a host on which no GPU works; otherwise the container would start and find none."""
    faults = [device.fault for device in devices if device.fault]
    doing = remedy(faults[0]) if faults else REMEDY_OF_LOST
    return InvalidInput("all GPUs asked for", f"this host has none that works{_lost(devices)}", doing, "OGH1223")


def passed_over(gpu: Gpu) -> str:
    """Return the warning for a request, for all or by count, that skips a GPU because it cannot be used."""
    return f"{named(gpu)} is passed over: {why_not(gpu.fault)}; {remedy(gpu.fault)}"


def given(gpu: Gpu) -> DriverError:
    """Refuse a lost GPU that an engine gives by a CDI specification."""
    return DriverError(f"the GPU at {quoted(gpu.bus_id)}", why_not(gpu.fault), remedy(gpu.fault), "OGH1222")


def given_with_others(gpu: Gpu) -> str:
    """Return the warning for a container that an engine gives every GPU, one of which is lost."""
    return f"the GPU at {quoted(gpu.bus_id)} is of no use: {why_not(gpu.fault)}; {remedy(gpu.fault)}"


def named(gpu: Gpu) -> str:
    """Return the name in messages of a GPU that may have no index and no UUID."""
    device = of([gpu])[0]
    return device.label if device.uuid == device.name else f"{device.label} ({device.uuid})"


def no_profile(profile: str, devices: Iterable[Device]) -> InvalidInput:
    """Refuse a MIG profile that none of the MIG devices of this host has."""
    profiles = sorted({device.profile for device in devices if device.whole})
    why = f"this host has MIG devices of {', '.join(profiles)}" if profiles else "this host has no MIG device"
    remedy = "ask for one of these profiles" if profiles else "make MIG devices with nvidia-smi, or ask for GPUs"
    return InvalidInput(f"MIG profile {quoted(profile)}", why, remedy, "OGH1212")


def _lost(devices: Iterable[Device]) -> str:
    faulty = [device for device in devices if device.fault and not device.whole]
    found = [f"{named(gpu_of(device))}: {device.fault}" for device in faulty if not is_sick(device.fault)]
    sick = [f"; {named(gpu_of(device))}: {device.fault}" for device in faulty if is_sick(device.fault)]
    more = f", and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    lost = f"; the driver has lost {', '.join(found[:_LISTED])}{more}" if found else ""
    return lost + "".join(sick[:_LISTED])


def _list(devices: Sequence[Device]) -> str:
    if not devices:
        return "no GPU"
    listed = [f"{device.label} ({device.uuid})" for device in devices[:_LISTED]]
    if len(devices) > _LISTED:
        listed.append(f"{len(devices) - _LISTED} more")
    return ", ".join(listed)
