"""Decides which devices are kept for containers that wait, and for how long. Pure.

The first to come is served first. A container that can be served now takes its devices within a second, and they are
kept for it until then. A container that cannot be served yet keeps its devices from those behind it for one turn, then
lets them pass for three times as long, and so on; its turns grow as it waits (`turn_left`). So no container is held up
for longer than a quarter of the time that the other has waited, and a large request is served when its turn is longer
than what it has to wait for.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.by_count import available, balanced, eligible
from oci_gpu_hook.allocation.conflict import holders
from oci_gpu_hook.allocation.model import Kept, leased
from oci_gpu_hook.base.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.allocation.model import Lease, Waiter
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request

FIRST_TURN: Final = 60  # seconds


def turn_left(waited: int) -> int:
    """Return for how many more seconds a container that has waited that long may hold others up; 0 if they may pass.

    It may do so in its first minute and then, each time its wait has doubled, for a quarter of the time waited.
    """
    if waited < 2 * FIRST_TURN:
        return max(FIRST_TURN - waited, 0)
    doubled = FIRST_TURN << (waited // FIRST_TURN).bit_length() - 1
    return max(doubled + doubled // 4 - waited, 0)


def kept(
    queue: Iterable[Waiter], kind: str, devices: Sequence[Device], held: Sequence[Lease], uptime: int
) -> tuple[Kept, ...]:
    """Return what is kept for containers that wait for devices of a kind. uptime: of the machine now, in seconds.

    If several wait for the same devices, only the turn of the first one counts. Otherwise the turns of many could
    follow each other, and nobody could ever pass.
    """
    found: list[Kept] = []
    turns: list[
        tuple[set[str], int]
    ] = []  # the devices that a container which cannot be served could use, and the rest of its turn
    for waiter in queue:
        request = waiter.request
        if request.kind != kind:
            continue
        try:
            usable = eligible(request, devices)
        except InvalidInput:  # its devices vanished while it waited, which its own hook reports
            continue
        needed = len(usable) if request.count is None else request.count
        if needed > len(usable):
            continue
        waited = max(uptime - waiter.uptime, 0)
        within = available(usable, request, found)
        free = available(within, request, [*held, *found])
        left = 0
        if len(free) >= needed:
            chosen = list(balanced(free, needed, [*held, *found], request))
        else:
            places = {place for device in usable for place in (device.uuid, *device.parts)}
            left = next((left for theirs, left in turns if not places.isdisjoint(theirs)), turn_left(waited))
            turns.append((places, left))
            chosen = _kept_back(request, within, free, held, found) if left else []
        if chosen:
            found.append(
                Kept(
                    container=waiter.container,
                    devices=tuple([leased(device, request) for device in chosen]),
                    exclusive=request.exclusive,
                    holder=waiter.holder,
                    since=waiter.since,
                    request=request,
                    waited=waited,
                    left=left,
                )
            )
    return tuple(found)


def _kept_back(
    request: Request, within: list[Device], free: list[Device], held: Sequence[Lease], found: Sequence[Lease]
) -> list[Device]:
    """Return the devices that a container which cannot be served keeps in its turn.

    It keeps the free ones among those that it needs, because otherwise small requests would overtake a large one for
    ever. It also keeps the next ones to become free, because otherwise new sharers would come as fast as old ones
    leave.
    """
    if request.count is None:
        return within
    chosen = balanced(free, min(request.count, len(free)), [*held, *found], request)
    busy = [device for device in within if device not in free]
    if request.is_share:
        busy.sort(key=lambda device: (_rest(device, held), *device.position))
    else:
        busy.sort(key=lambda device: (len(holders(device, held)), *device.position))
    return [*chosen, *busy[: request.count - len(chosen)]]


def _rest(device: Device, held: Sequence[Lease]) -> int:
    """Return a key that sorts devices by what shares may still have of them, most first."""
    from oci_gpu_hook.allocation import shares

    return -shares.left(device, held).memory
