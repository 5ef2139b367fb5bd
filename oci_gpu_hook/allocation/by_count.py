"""Chooses the devices that a request by count gets. Pure and deterministic.

Of the devices that can be granted, those with the fewest holders come first; among equals `topology` decides, then the
lowest index. For shares, `shares.load` says which come first.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.conflict import holders, obstacle
from oci_gpu_hook.devices import vendors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request


def choose(request: Request, devices: Sequence[Device], held: Sequence[Lease]) -> tuple[Device, ...]:
    """Return the devices that a request by count gets, given the leases `held`. Raises as `select.choose` does."""
    count = request.count or 0
    candidates = eligible(request, devices)
    free = available(candidates, request, held)
    if count > len(free) and request.is_share:
        from oci_gpu_hook.allocation import share_messages

        if count > len(candidates):
            raise share_messages.too_many(request, devices, candidates, held, len(free))
        raise share_messages.too_few(request, candidates, held, len(free))
    if count > len(free):
        from oci_gpu_hook.allocation import messages

        if count > len(candidates):
            raise messages.too_many(request, devices, candidates, held, len(free))
        raise messages.too_few_free(request, candidates, held, len(free))
    return balanced(free, count, held, request)


def eligible(request: Request, devices: Sequence[Device]) -> list[Device]:
    """Return the devices that could serve a request, whether they are held or not. Raises InvalidInput."""
    if request.count is None:
        return list(vendors.of(request.kind).resolve(request.devices, devices))
    found = _of_profile(request, devices) if request.devices else [device for device in devices if device.countable]
    if request.memory_limit:
        found = [device for device in found if device.shareable >= request.memory_limit]
    return [device for device in found if device.memory >= request.memory and not device.fault and not device.excluded]


def available(devices: Iterable[Device], request: Request, held: Sequence[Lease]) -> list[Device]:
    """Return the devices that a request can get now: not held at all if it is exclusive, else not held exclusively.

    A share also has to fit beside those that others have.
    """
    free = [device for device in devices if obstacle(device, request, held) is None]
    if not request.is_share:
        return free
    from oci_gpu_hook.allocation import shares

    return [device for device in free if shares.fits(device, request, held)]


def balanced(free: Sequence[Device], count: int, held: Sequence[Lease], request: Request) -> tuple[Device, ...]:
    """Take the devices with the fewest holders, or the best ones for a share; topology decides among equals."""
    load: dict[str, Any]
    if request.is_share:
        from oci_gpu_hook.allocation import shares

        load = {device.uuid: shares.load(device, request, held) for device in free}
    else:
        load = {device.uuid: len(holders(device, held)) for device in free}
    ranked = sorted(free, key=lambda device: (load[device.uuid], *device.position))
    if count <= 0:
        return ()
    limit = load[ranked[count - 1].uuid]
    sure = [device for device in ranked if load[device.uuid] < limit]
    equals = [device for device in ranked if load[device.uuid] == limit]
    wanted = count - len(sure)
    if wanted == 1 == count or wanted == len(equals) or any(device.whole for device in free):
        chosen = sure + equals[:wanted]  # parts have no links; in order, they fill one whole device first
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
