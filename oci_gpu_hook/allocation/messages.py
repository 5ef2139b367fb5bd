"""What a container is told when it does not get its devices: who holds them, what there is, what to do. Pure."""

from __future__ import annotations

from oci_gpu_hook.allocation.conflict import holders
from oci_gpu_hook.allocation.model import Busy
from oci_gpu_hook.base.errors import AllocationError, quoted
from oci_gpu_hook.devices import vendors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request

_LISTED: Final = 8  # holders that a message names one by one
GIB: Final = 1 << 30


def held(device: Device, lease: Lease) -> Busy:
    """Refuse a named device that a lease forbids."""
    manner = "exclusively" if lease.exclusive else "too, and it was asked for exclusively"
    return Busy(
        f"{device.label} ({device.uuid}) cannot be granted",
        f"container {quoted(lease.name)} holds it {manner}",
        "stop that container, ask for another GPU, or ask by count with io.oci-gpu-hook.wait",
    )


def too_many(
    request: Request, devices: Sequence[Device], candidates: Sequence[Device], held: Sequence[Lease], free: int
) -> AllocationError:
    """Refuse more devices than the host has. free: how many of the candidates could be granted now."""
    why = f"this host has {len(candidates)}"
    if request.memory and not request.devices:
        countable = [device for device in devices if device.countable]
        unknown = sum(not device.memory for device in countable)
        why += f" such of {len(countable)}" + (f" (the memory of {unknown} is unknown)" if unknown else "")
    partitioned = sum(not (device.whole or device.countable) for device in devices)
    if partitioned and not request.devices:
        why += f", and {partitioned} {vendors.of(request.kind).TERMS.partitioned}"
    if candidates:
        why += f"; {free} free{_held_by(candidates, held)}"
    return AllocationError(_asked(request), why, f"ask for at most {len(candidates)}" if candidates else "ask for less")


def too_few_free(request: Request, candidates: Sequence[Device], held: Sequence[Lease], free: int) -> Busy:
    """Refuse devices of which others hold too many."""
    why = f"of {len(candidates)} on this host {free} can be granted now{_held_by(candidates, held)}"
    return Busy(_asked(request), why, "try again when they are free, or wait for them with io.oci-gpu-hook.wait")


def unusable(directory: str, why: str) -> AllocationError:
    """Refuse what cannot be granted without a record of it."""
    what = f"cannot use the record of who holds which GPU in {quoted(directory)}"
    remedy = "make it a directory of root's on a file system with room ([state] dir of the configuration)"
    return AllocationError(what, why, remedy)


def _asked(request: Request) -> str:
    count = request.count or 0
    terms = vendors.of(request.kind).TERMS
    kind = (terms.part if request.devices else terms.whole) + "s" * (count != 1)
    profile = f" {request.devices[0]}" if request.devices else ""
    manner = " exclusively" if request.exclusive else ""
    memory = f" of {_size(request.memory)}" if request.memory else ""
    return f"{count} {kind}{profile}{memory} asked for{manner}"


def _held_by(candidates: Iterable[Device], held: Sequence[Lease]) -> str:
    """Say who holds what, bounded: `; GPU 0 held by 'a' exclusively, GPU 1 by 'b'`."""
    parts = []
    for device in candidates:
        for lease in holders(device, held):
            manner = " exclusively" if lease.exclusive else ""
            parts.append(f"{device.label} held by {quoted(lease.name)}{manner}")
    if not parts:
        return ""
    more = [f"and {len(parts) - _LISTED} more"] if len(parts) > _LISTED else []
    return "; " + ", ".join(parts[:_LISTED] + more)


def _size(memory: int) -> str:
    return f"{memory // GIB}GiB" if memory % GIB == 0 else f"{memory} bytes"
