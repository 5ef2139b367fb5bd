"""What a container is told that does not get its devices: who holds them, what there is instead, what to do. Pure."""

from __future__ import annotations

from oci_gpu_hook.allocation import names, select
from oci_gpu_hook.allocation.select import Busy
from oci_gpu_hook.base.errors import AllocationError, InvalidInput, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.allocation.lease_table import Lease
    from oci_gpu_hook.allocation.model import Granted
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.request.model import Request

_LISTED: Final = 8  # devices, or holders, that a message names one by one
GIB: Final = 1 << 30


def unknown(name: str, inventory: Inventory) -> InvalidInput:
    """Refuse a name that is no device's, with the nearest that is."""
    from difflib import get_close_matches

    devices = names.everything(inventory)
    known = {gpu.uuid.lower(): gpu.uuid for gpu in inventory.gpus}
    known |= {gpu.bus_id.lower(): gpu.bus_id for gpu in inventory.gpus}
    known |= {device.uuid.lower(): device.uuid for device in devices}
    if any(device.mig and device.mig.profile.lower() == name.lower() for device in devices):
        remedy = "a MIG profile is asked for by count: set io.oci-gpu-hook.count as well"
    elif nearest := get_close_matches(name.lower(), known, n=1, cutoff=0.7):
        remedy = f"did you mean {known[nearest[0]]}?"
    else:
        remedy = "name one of these or 'all'" if devices else "oci-gpu doctor tells why"
    return InvalidInput(f"unknown device {quoted(name)}", f"this host has {_list(devices)}", remedy)


def no_profile(profile: str, devices: Iterable[Granted]) -> InvalidInput:
    """Refuse a MIG profile that none of the MIG devices of this host has."""
    profiles = sorted({device.mig.profile for device in devices if device.mig})
    why = f"this host has MIG devices of {', '.join(profiles)}" if profiles else "this host has no MIG device"
    remedy = "ask for one of these profiles" if profiles else "make MIG devices with nvidia-smi, or ask for GPUs"
    return InvalidInput(f"MIG profile {quoted(profile)}", why, remedy)


def held(device: Granted, lease: Lease) -> Busy:
    """Refuse a named device that a lease forbids."""
    manner = "exclusively" if lease.exclusive else "too, and it was asked for exclusively"
    return Busy(
        f"{names.label(device)} ({device.uuid}) cannot be granted",
        f"container {quoted(lease.container)} holds it {manner}",
        "stop that container, ask for another GPU, or ask by count with io.oci-gpu-hook.wait",
    )


def too_many(
    request: Request, inventory: Inventory, candidates: Sequence[Granted], held: Sequence[Lease], free: int
) -> AllocationError:
    """Refuse more devices than the host has. free: how many of the candidates could be granted now."""
    why = f"this host has {len(candidates)}"
    if request.memory and not request.devices:
        whole = [gpu for gpu in inventory.gpus if not gpu.mig_enabled]
        unknown = sum(not gpu.memory for gpu in whole)
        why += f" such of {len(whole)}" + (f" (the memory of {unknown} is unknown)" if unknown else "")
    in_mig_mode = sum(gpu.mig_enabled for gpu in inventory.gpus)
    if in_mig_mode and not request.devices:
        why += f", and {in_mig_mode} in MIG mode, which are granted by MIG profile"
    if candidates:
        why += f"; {free} free{_held_by(candidates, held)}"
    return AllocationError(_asked(request), why, f"ask for at most {len(candidates)}" if candidates else "ask for less")


def too_few_free(request: Request, candidates: Sequence[Granted], held: Sequence[Lease], free: int) -> Busy:
    """Refuse devices of which others hold too many."""
    why = f"of {len(candidates)} on this host {free} can be granted now{_held_by(candidates, held)}"
    return Busy(_asked(request), why, "try again when they are free, or wait for them with io.oci-gpu-hook.wait")


def unusable(directory: str, why: str) -> AllocationError:
    """Refuse what cannot be granted without a record of it."""
    what = f"cannot use the record of who holds which GPU in {quoted(directory)}"
    remedy = "make it a directory of root's on a file system with room ([state] dir of the configuration)"
    return AllocationError(what, why, remedy)


def _list(devices: tuple[Granted, ...]) -> str:
    if not devices:
        return "no GPU"
    listed = [f"{names.label(device)} ({device.uuid})" for device in devices[:_LISTED]]
    if len(devices) > _LISTED:
        listed.append(f"{len(devices) - _LISTED} more")
    return ", ".join(listed)


def _asked(request: Request) -> str:
    count = request.count or 0
    kind = ("MIG device" if request.devices else "GPU") + "s" * (count != 1)
    profile = f" {request.devices[0]}" if request.devices else ""
    manner = " exclusively" if request.exclusive else ""
    memory = f" of {_size(request.memory)}" if request.memory else ""
    return f"{count} {kind}{profile}{memory} asked for{manner}"


def _held_by(candidates: Iterable[Granted], held: Sequence[Lease]) -> str:
    """Say who holds what, bounded: `; GPU 0 held by 'a' exclusively, GPU 1 by 'b'`."""
    parts = []
    for device in candidates:
        for lease in select.holders(device, held):
            manner = " exclusively" if lease.exclusive else ""
            parts.append(f"{names.label(device)} held by {quoted(lease.container)}{manner}")
    if not parts:
        return ""
    more = [f"and {len(parts) - _LISTED} more"] if len(parts) > _LISTED else []
    return "; " + ", ".join(parts[:_LISTED] + more)


def _size(memory: int) -> str:
    return f"{memory // GIB}GiB" if memory % GIB == 0 else f"{memory} bytes"
