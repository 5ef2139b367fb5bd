"""Words the refusals of devices: who holds them, what the host has, what to do. Pure, but for the id of the user."""

from __future__ import annotations

import os

from oci_gpu_hook.allocation.conflict import holders
from oci_gpu_hook.allocation.model import Busy, Kept
from oci_gpu_hook.base.errors import AllocationError, quoted
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.request.model import IN_THE_BUNDLE, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request

LISTED: Final = 8  # how many holders a message names
GIB: Final = 1 << 30


def held(device: Device, request: Request, lease: Lease) -> Busy:
    """Refuse a named device that a lease forbids."""
    manner = "exclusively" if lease.exclusive else "too, and it was asked for exclusively"
    why = _keeps(lease) if isinstance(lease, Kept) else f"container {quoted(lease.name)} holds it {manner}"
    if request.source == IN_THE_BUNDLE:
        what = f"{_named(device)}, which the engine has put into this container, is not available"
        return Busy(what, why, f"stop that container, or have the engine give this one {another(device)}", "OGH1301")
    remedy = f"stop that container, ask for {another(device)}, or wait for it with {name_of('wait', request)}=60s"
    return Busy(f"{_named(device)} cannot be granted", why, remedy, "OGH1301")


def another(device: Device) -> str:
    """Return the words for another device of the same kind: another GPU, another vendor.com/nic device."""
    terms = vendors.of(device.kind).TERMS
    return f"another {terms.part if device.whole else terms.whole}"


def _named(device: Device) -> str:
    """Return what people call the device, and what it is leased as where that is another name."""
    return device.label if device.label == device.uuid else f"{device.label} ({device.uuid})"


def too_many(
    request: Request, devices: Sequence[Device], candidates: Sequence[Device], held: Sequence[Lease], free: int
) -> AllocationError:
    """Refuse a request for more devices than the host has. free: how many candidates could be granted now."""
    why = f"this host has {len(candidates)}"
    remedy = f"ask for at most {len(candidates)}" if candidates else "ask for them on another host"
    if request.memory and not request.devices:
        countable = [device for device in devices if device.countable and not device.fault and not device.excluded]
        unknown = sum(not device.memory for device in countable)
        why += f" of that size among its {len(countable)}" + (
            f" (the memory of {unknown} is unknown)" if unknown else ""
        )
        largest = max(countable, key=lambda device: device.memory, default=None)
        if largest and 0 < largest.memory < request.memory:
            why += f", the largest is {largest.label} with {size(largest.memory)}"
            remedy = f"set {name_of('memory', request)} to at most {size(largest.memory)}"
    partitioned = sum(not (device.whole or device.countable or device.fault) for device in devices)
    if partitioned and not request.devices:
        why += f", and {partitioned} {vendors.of(request.kind).TERMS.partitioned}"
    lost = [device for device in devices if device.fault and not device.whole]
    if lost:
        names = ", ".join(f"{device.label}: {device.fault}" for device in lost[:LISTED])
        why += f", and {len(lost)} that cannot be used ({names})"
    excluded = sum(device.excluded and (bool(device.whole) == bool(request.devices)) for device in devices)
    if excluded:
        why += f", and {excluded} that [allocation] exclude keeps out of counts"
    if candidates:
        why += f"; {free} available{_held_by(candidates, held)}"
    return AllocationError(asked(request), why, remedy, "OGH1302")


def too_few_free(request: Request, candidates: Sequence[Device], held: Sequence[Lease], free: int) -> Busy:
    """Refuse a request for devices of which others hold too many."""
    why = f"{free} of {len(candidates)} available{_held_by(candidates, held)}"
    remedy = f"try again when they are free, or wait for them with {name_of('wait', request)}=60s"
    return Busy(asked(request), why, remedy, "OGH1303")


def beside(error: AllocationError, has: int, others: int) -> AllocationError:
    """Add to a refusal of more devices how many the container has. others: how many more there are on this host."""
    why = f"the container has {has} already; beside {'it' if has == 1 else 'them'} {error.why}"
    remedy = error.remedy if others else "there is no other to attach: detach one first, or attach to another container"
    return type(error)(error.what, why, remedy, error.code)


def after_wait(busy: Busy, request: Request, seconds: int, longest: int | None) -> Busy:
    """Add to a refusal how long the container waited. longest: the longest wait that the configuration allows."""
    remedy = "try again when others have ended, or wait longer"
    if longest is not None and request.wait >= longest:
        remedy = "try again when others have ended; [allocation] longest-wait of this host allows no longer wait"
    return Busy(busy.what, f"{busy.why}; waited {duration(seconds)}", remedy, busy.code)


def unusable(directory: str, why: str) -> AllocationError:
    """Refuse a request that cannot be granted because the record cannot be used."""
    what = f"cannot use the record of who holds which device in {quoted(directory)}"
    remedy = "check that root owns it and that its file system has room ([state] dir of the configuration)"
    if os.geteuid():
        remedy = "run this as root, or as root of a user namespace, as rootless engines do: unshare -rm COMMAND"
    return AllocationError(what, why, remedy, "OGH1306")


def asked(request: Request) -> str:
    """Describe a request by count."""
    return f"{_wanted(request)} asked for{' exclusively' * request.exclusive}"


def size(memory: int) -> str:
    """Return an amount of memory in the form of a request, rounded down."""
    if memory % GIB and memory >> 20:
        return f"{memory >> 20}MiB"
    return f"{memory // GIB}GiB" if memory >= GIB else f"{memory} bytes"


def amounts(memory: int, cores: int) -> str:
    """Describe a part of a device: 8GiB and 25% of the cores."""
    parts = [size(memory)] if memory else []
    return " and ".join(parts + ([f"{cores}% of the cores"] if cores else [])) or "nothing"


def remaining(device: Device, memory: int, cores: int) -> str:
    """Describe what is left of a device, of which both can be used up: 8GiB and none of the cores."""
    if not (memory or cores) or not device.memory:
        return amounts(memory, cores)
    return f"{size(memory) if memory else 'no memory'} and {f'{cores}%' if cores else 'none'} of the cores"


def part(memory: int, cores: int) -> str:
    """Return a part of a device in short, 8GiB 25%; "" for none."""
    return " ".join(([size(memory)] if memory else []) + ([f"{cores}%"] if cores else []))


def wanted(request: Request) -> str:
    """Say in short what a waiting container waits for: 2, or 0, 3, with its part of each."""
    what = str(request.count) if request.count else ", ".join(request.devices)
    share = part(request.memory_limit, request.cores)
    return f"{share} of {what}" if share else what


def duration(seconds: int) -> str:
    """Return a time as text: 45 s, 12 min, 3 h."""
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _wanted(request: Request) -> str:
    count = request.count or 0
    terms = vendors.of(request.kind).TERMS
    kind = (terms.part if request.devices else terms.whole) + "s" * (count != 1)
    profile = f" {request.devices[0]}" if request.devices else ""
    memory = f" of {size(request.memory)}" if request.memory else ""
    share = f"{amounts(request.memory_limit, request.cores)} of " if request.is_share else ""
    return f"{share}{count} {kind}{profile}{memory}"


def _held_by(candidates: Sequence[Device], held: Sequence[Lease]) -> str:
    """Say briefly who holds what, and who the rest is kept for: `; GPU 0 held by 'a' exclusively, GPU 1 by 'b'`."""
    parts = []
    taken = set()
    real = [lease for lease in held if not isinstance(lease, Kept)]
    for device in candidates:
        for lease in holders(device, real):
            taken.add(device.uuid)
            manner = " exclusively" if lease.exclusive else ""
            parts.append(f"{device.label} held by {quoted(lease.name)}{manner}")
    for lease in held:
        if isinstance(lease, Kept):
            names = [device.label for device in candidates if device.uuid not in taken and holders(device, [lease])]
            if names:
                parts.append(f"{listed(names)}: {_keeps(lease)}")
    if not parts:
        return ""
    return "; " + listed(parts)


def _keeps(lease: Kept) -> str:
    """Say who a device is kept for, and for how much longer at most."""
    request = lease.request
    wanted = _wanted(request) if request.count is not None else ", ".join(map(quoted, request.devices[:LISTED]))
    turn = f", for {duration(lease.left)} more at most" if lease.left else ""
    return (
        f"kept for {quoted(lease.container)}, which came first and has waited {duration(lease.waited)} "
        f"for {wanted}{turn}"
    )


def listed(names: Iterable[str]) -> str:
    """Join texts by commas, the first ones if they are many."""
    names = [*names]
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join(names[:LISTED] + more)
