"""Words the refusals of shares: what is left of devices, who has the rest, what to do. Pure."""

from __future__ import annotations

from oci_gpu_hook.allocation import shares
from oci_gpu_hook.allocation.conflict import holders, is_of
from oci_gpu_hook.allocation.messages import LISTED, amounts, asked, duration, listed, size
from oci_gpu_hook.allocation.model import Busy, Kept
from oci_gpu_hook.base.errors import AllocationError, quoted
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
    remedy = f"ask for less, for another GPU, or wait for it with {name_of('wait', request)}=60s"
    return Busy(what, _room(device, held), remedy, "OGH1305")


def too_many(
    request: Request, countable: Sequence[Device], candidates: Sequence[Device], held: Sequence[Lease], free: int
) -> AllocationError:
    """Refuse shares of more devices than the host has for them. free: on how many there is room now."""
    if candidates:
        why = f"this host has {len(candidates)} with that much memory for containers; {free} have room now"
        return AllocationError(
            asked(request), why + _of_all(candidates, held), f"ask for at most {len(candidates)}", "OGH1302"
        )
    largest = max(countable, key=lambda device: device.shareable, default=None)
    if largest is None:
        return AllocationError(asked(request), "this host has no GPU to share", "ask for it on another host", "OGH1302")
    error = too_large(largest, request)
    return AllocationError(asked(request), f"of {largest.label}, the largest, {error.why}", error.remedy, "OGH1304")


def too_few(request: Request, candidates: Sequence[Device], held: Sequence[Lease], free: int) -> Busy:
    """Refuse shares of more devices than have room for them now."""
    why = f"{free} of {len(candidates)} have room{_of_all(candidates, held)}"
    remedy = f"try again when others have ended, ask for less, or wait with {name_of('wait', request)}=60s"
    return Busy(asked(request), why, remedy, "OGH1305")


def _of_all(candidates: Sequence[Device], held: Sequence[Lease]) -> str:
    return "; " + listed([_room(device, held, labelled=True) for device in candidates]) if candidates else ""


def _room(device: Device, held: Sequence[Lease], *, labelled: bool = False) -> str:
    """Say what is left of a device, and who has the rest."""
    found = shares.left(device, held)
    there = f"{amounts(max(found.memory, 0), max(found.cores, 0))} left"
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
