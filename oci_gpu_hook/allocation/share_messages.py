"""Words the refusals of shares: what is left of devices, who has the rest, what to do. Pure."""

from __future__ import annotations

from oci_gpu_hook.allocation import shares
from oci_gpu_hook.allocation.conflict import holders, is_of
from oci_gpu_hook.allocation.messages import LISTED, amounts, another, asked, duration, listed, remaining, size
from oci_gpu_hook.allocation.model import Busy, Kept
from oci_gpu_hook.base.errors import AllocationError, quoted
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.request.model import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request


def too_large(device: Device, request: Request) -> AllocationError:
    """Refuse more memory of a named device than containers can have of it."""
    what = f"{size(request.memory_limit)} of {device.label} ({device.uuid})"
    setting = name_of("memory-limit", request)
    if not device.memory:
        return AllocationError(
            what, "how much memory it has is not known here", f"ask for it without {setting}", "OGH1304"
        )
    why = (
        f"containers can have {size(device.shareable)} of its {size(device.memory)} ([sharing] reserve keeps the rest)"
    )
    return AllocationError(what, why, f"set {setting} to at most {size(device.shareable)}", "OGH1304")


def no_room(device: Device, request: Request, held: Sequence[Lease]) -> Busy:
    """Refuse a share that does not fit onto a named device now."""
    what = f"{amounts(request.memory_limit, request.cores)} of {device.label} ({device.uuid})"
    remedy = (
        f"{_less(request, [device], held)}, for {another(device)}, or wait for it with {name_of('wait', request)}=60s"
    )
    return Busy(what, _room(device, held), remedy, "OGH1305")


def too_many(
    request: Request, devices: Sequence[Device], candidates: Sequence[Device], held: Sequence[Lease], free: int
) -> AllocationError:
    """Refuse shares of more devices than the host has for them. free: on how many there is room now."""
    if candidates:
        why = f"this host has {len(candidates)} with that much memory for containers; {free} have room now"
        return AllocationError(
            asked(request), why + _of_all(candidates, held), f"ask for at most {len(candidates)}", "OGH1302"
        )
    countable = [device for device in devices if device.countable and not device.fault and not device.excluded]
    largest = max(countable, key=lambda device: device.shareable, default=None)
    if largest is None:
        divided = sum(not (device.whole or device.countable or device.fault) for device in devices)
        if divided:
            why = f"this host has none to share, but {divided} {vendors.of(request.kind).TERMS.partitioned}"
            return AllocationError(
                asked(request), why, "ask for one of their parts, without a share, or on another host", "OGH1302"
            )
        why = f"this host has no {vendors.of(request.kind).TERMS.whole} to share"
        return AllocationError(asked(request), why, "ask for it on another host", "OGH1302")
    error = too_large(largest, request)
    of_largest = f"of {largest.label}, the largest, " if largest.memory else f"{largest.label}: "
    return AllocationError(asked(request), of_largest + error.why, error.remedy, "OGH1304")


def too_few(request: Request, candidates: Sequence[Device], held: Sequence[Lease], free: int) -> Busy:
    """Refuse shares of more devices than have room for them now."""
    why = f"{free} of {len(candidates)} have room{_of_all(candidates, held)}"
    less = _less(request, candidates, held)
    remedy = f"try again when others have ended, {less}, or wait with {name_of('wait', request)}=60s"
    return Busy(asked(request), why, remedy, "OGH1305")


def _less(request: Request, candidates: Sequence[Device], held: Sequence[Lease]) -> str:
    """Say how large a part could be had now, of as many devices as are asked for."""
    count = request.count or 1
    left = [(each.memory_left, each.cores_left) for each in [shares.standing(device, held) for device in candidates]]
    first = 0 if request.memory_limit else 1
    memory, cores = sorted(left, key=lambda each: (each[first], *each), reverse=True)[count - 1]
    if (request.memory_limit and not memory) or (request.cores and not cores):
        return "ask for less"
    most = amounts(memory if request.memory_limit else 0, cores if request.cores else 0)
    return f"ask for at most {most}" + (" of each" if count > 1 else "")


def _of_all(candidates: Sequence[Device], held: Sequence[Lease]) -> str:
    return "; " + listed([_room(device, held, labelled=True) for device in candidates]) if candidates else ""


def _room(device: Device, held: Sequence[Lease], *, labelled: bool = False) -> str:
    """Say what is left of a device, and who has the rest."""
    found = shares.left(device, held)
    there = f"{remaining(device, max(found.memory, 0), max(found.cores, 0))} left"
    who = []
    for lease in holders(device, held):
        for leased in lease.devices:
            if is_of(leased, device):
                what = amounts(leased.memory, leased.cores) if leased.is_share else "it without limits"
                if lease.exclusive:
                    what = "it exclusively"
                verb = "has"
                if isinstance(lease, Kept):
                    verb = f"has waited {duration(lease.waited)} for"
                who.append(f"{quoted(lease.name)} {verb} {what}")
    held_by = f": {', '.join(who[:LISTED])}" + (f" and {len(who) - LISTED} more" if len(who) > LISTED else "")
    return (f"{device.label} has " if labelled else "it has ") + there + (held_by if who else "")
