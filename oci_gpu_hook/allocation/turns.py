"""What those who wait have first call on, and for how long at a time. Pure.

Whoever came first is served first. One that could be served now takes what it needs within the second, and nobody gets
it meanwhile. One that cannot be served yet keeps what it needs back from those behind it for a turn, then lets them
pass for three times as long, and so on with turns that grow as it waits: `turn_left`. So nobody is held up for longer
than a quarter of what the other has waited, and a large request is served once a turn is as long as what holds it up.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.by_count import balanced, eligible
from oci_gpu_hook.allocation.conflict import available, holders
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
    """Return for how many seconds more one that has waited so long may keep others back; 0 while they may pass.

    It may in its first minute, and whenever its wait has doubled since, for a quarter of what it has waited by then.
    """
    if waited < 2 * FIRST_TURN:
        return max(FIRST_TURN - waited, 0)
    doubled = FIRST_TURN << (waited // FIRST_TURN).bit_length() - 1
    return max(doubled + doubled // 4 - waited, 0)


def kept(
    queue: Iterable[Waiter], kind: str, devices: Sequence[Device], held: Sequence[Lease], uptime: int
) -> tuple[Kept, ...]:
    """Return what is kept for those who wait for devices of a kind. uptime: of the machine now, in seconds.

    Of those who wait for the same devices the first one's turn counts, whoever is behind it: or else the turns of many
    would come one after the other, and nobody could ever pass.
    """
    found: list[Kept] = []
    turns: list[tuple[set[str], int]] = []  # what one that cannot be served could use, and what is left of its turn
    for waiter in queue:
        request = waiter.request
        if request.kind != kind:
            continue
        try:
            usable = eligible(request, devices)
        except InvalidInput:  # its devices vanished while it waited; its own hook will say so
            continue
        needed = len(usable) if request.count is None else request.count
        if needed > len(usable):
            continue
        waited = max(uptime - waiter.uptime, 0)
        within = available(usable, request, found)
        free = available(within, request, held)
        left = 0
        if len(free) >= needed:
            chosen = list(balanced(free, needed, [*held, *found]))
        else:
            places = {place for device in usable for place in (device.uuid, *device.parts)}
            left = next((left for theirs, left in turns if not places.isdisjoint(theirs)), turn_left(waited))
            turns.append((places, left))
            chosen = _kept_back(request, within, free, held, found) if left else []
        if chosen:
            found.append(
                Kept(
                    container=waiter.container,
                    devices=tuple([leased(device) for device in chosen]),
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
    """Return what one that cannot be served keeps in its turn.

    Of what it needs it keeps what is free, or else small requests would overtake a large one for ever; and of what is
    held the next to become free, or else new sharers would come as fast as old ones go.
    """
    if request.count is None:
        return within
    chosen = balanced(free, min(request.count, len(free)), [*held, *found])
    busy = [device for device in within if device not in free]
    busy.sort(key=lambda device: (len(holders(device, held)), *device.position))
    return [*chosen, *busy[: request.count - len(chosen)]]
