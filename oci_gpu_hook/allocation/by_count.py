"""Which devices a request by count gets, and what those who wait for some have first call on. Pure and deterministic.

Of the devices that may be granted those with the fewest holders come first; among equals `topology` decides, then the
lowest index.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.conflict import available, holders
from oci_gpu_hook.allocation.model import Lease, leased
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.devices import vendors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from oci_gpu_hook.allocation.model import Waiter
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request


def choose(request: Request, devices: Sequence[Device], held: Sequence[Lease]) -> tuple[Device, ...]:
    """Return the devices that a request by count gets while `held` is held. Raises as `select.choose` does."""
    count = request.count or 0
    candidates = eligible(request, devices)
    free = available(candidates, request, held)
    if count > len(free):
        from oci_gpu_hook.allocation import messages

        if count > len(candidates):
            raise messages.too_many(request, devices, candidates, held, len(free))
        raise messages.too_few_free(request, candidates, held, len(free))
    return _balanced(free, count, held)


def eligible(request: Request, devices: Sequence[Device]) -> list[Device]:
    """Return the devices that could serve a request, whoever holds them. Raises InvalidInput."""
    if request.count is None:
        return list(vendors.of(request.kind).resolve(request.devices, devices))
    found = _of_profile(request, devices) if request.devices else [device for device in devices if device.countable]
    return [device for device in found if device.memory >= request.memory and not device.fault]


def reserved(queue: Iterable[Waiter], kind: str, devices: Sequence[Device], held: Sequence[Lease]) -> tuple[Lease, ...]:
    """Return what those who wait for devices of a kind have first call on, as leases that later comers must respect.

    A waiter keeps what is free of what it needs, or else small requests would overtake a large one for ever; and of
    what is held it keeps the next to become free, or else new sharers would come as fast as old ones go.
    """
    kept: list[Lease] = []
    for waiter in queue:
        request = waiter.request
        if request.kind != kind:
            continue
        try:
            needed = available(eligible(request, devices), request, kept)
        except InvalidInput:  # its devices vanished while it waited; its own hook will say so
            continue
        if request.count is not None:
            free = available(needed, request, held)
            chosen = list(_balanced(free, min(request.count, len(free)), [*held, *kept]))
            busy = [device for device in needed if device not in free]
            busy.sort(key=lambda device: (len(holders(device, held)), *device.position))
            needed = [*chosen, *busy[: request.count - len(chosen)]]
        if needed:
            kept.append(
                Lease(
                    container=waiter.container,
                    devices=tuple(leased(device) for device in needed),
                    exclusive=request.exclusive,
                    holder=waiter.holder,
                    since=waiter.since,
                )
            )
    return tuple(kept)


def _balanced(free: Sequence[Device], count: int, held: Sequence[Lease]) -> tuple[Device, ...]:
    """Take the devices with the fewest holders; where only some of equals are needed, topology says which."""
    load = {device.uuid: len(holders(device, held)) for device in free}
    ranked = sorted(free, key=lambda device: (load[device.uuid], *device.position))
    if count <= 0:
        return ()
    limit = load[ranked[count - 1].uuid]
    sure = [device for device in ranked if load[device.uuid] < limit]
    equals = [device for device in ranked if load[device.uuid] == limit]
    wanted = count - len(sure)
    if wanted == 1 == count or wanted == len(equals) or any(device.whole for device in free):
        chosen = sure + equals[:wanted]  # parts have no links; the lowest fill one whole device before the next
    else:
        from oci_gpu_hook.allocation import topology

        chosen = [*sure, *topology.best(sure, equals, wanted)]
    return tuple(sorted(chosen, key=lambda device: device.position))


def _of_profile(request: Request, devices: Sequence[Device]) -> list[Device]:
    profile = request.devices[0]
    matching = [device for device in devices if device.whole and device.profile.lower() == profile.lower()]
    if not matching:
        raise vendors.of(request.kind).no_profile(profile, devices)
    return matching
