"""Which devices a request by count gets, and what those who wait for some have first call on. Pure and deterministic.

Of the devices that may be granted those with the fewest holders come first; among equals `topology` decides, then the
lowest index.
"""

from __future__ import annotations

from oci_gpu_hook.allocation import names
from oci_gpu_hook.allocation.lease_table import Lease
from oci_gpu_hook.allocation.model import Granted
from oci_gpu_hook.allocation.select import holders, leased, obstacle
from oci_gpu_hook.base.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from oci_gpu_hook.allocation.queue import Waiter
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.request.model import Request


def choose(request: Request, inventory: Inventory, held: Sequence[Lease]) -> tuple[Granted, ...]:
    """Return the devices that a request by count gets while `held` is held. Raises as `choice.choose` does."""
    count = request.count or 0
    candidates = eligible(request, inventory)
    free = available(candidates, request, held)
    if count > len(free):
        from oci_gpu_hook.allocation import messages

        if count > len(candidates):
            raise messages.too_many(request, inventory, candidates, held, len(free))
        raise messages.too_few_free(request, candidates, held, len(free))
    return _balanced(free, count, held)


def eligible(request: Request, inventory: Inventory) -> list[Granted]:
    """Return the devices that could serve a request, whoever holds them. Raises InvalidInput.

    GPUs in MIG mode are not counted as GPUs, because CUDA sees nothing on them but their MIG devices.
    """
    if request.count is None:
        return list(names.resolve(request.devices, inventory))
    if request.devices:
        devices = _of_profile(request.devices[0], inventory)
    else:
        devices = [Granted(gpu=gpu) for gpu in inventory.gpus if not gpu.mig_enabled]
    return [device for device in devices if _memory(device) >= request.memory]


def available(devices: Iterable[Granted], request: Request, held: Sequence[Lease]) -> list[Granted]:
    """Return those of `devices` that a request may have now: unheld for an exclusive one, else not exclusively held."""
    return [device for device in devices if obstacle(device, request, held) is None]


def reserved(queue: Iterable[Waiter], inventory: Inventory, held: Sequence[Lease]) -> tuple[Lease, ...]:
    """Return what those who wait have first call on, as leases that later comers must respect.

    A waiter keeps what is free of what it needs, or else small requests would overtake a large one for ever; and of
    what is held it keeps the next to become free, or else new sharers would come as fast as old ones go.
    """
    kept: list[Lease] = []
    for waiter in queue:
        request = waiter.request
        try:
            devices = available(eligible(request, inventory), request, kept)
        except InvalidInput:  # its devices vanished while it waited; its own hook will say so
            continue
        if request.count is not None:
            free = available(devices, request, held)
            chosen = list(_balanced(free, min(request.count, len(free)), [*held, *kept]))
            busy = [device for device in devices if device not in free]
            busy.sort(key=lambda device: (len(holders(device, held)), *_position(device)))
            devices = [*chosen, *busy[: request.count - len(chosen)]]
        if devices:
            kept.append(
                Lease(
                    container=waiter.container,
                    devices=tuple(leased(device) for device in devices),
                    exclusive=request.exclusive,
                    holder=waiter.holder,
                    since=waiter.since,
                )
            )
    return tuple(kept)


def _balanced(free: Sequence[Granted], count: int, held: Sequence[Lease]) -> tuple[Granted, ...]:
    """Take the devices with the fewest holders; where only some of equals are needed, topology says which."""
    load = {device.uuid: len(holders(device, held)) for device in free}
    ranked = sorted(free, key=lambda device: (load[device.uuid], *_position(device)))
    if count <= 0:
        return ()
    limit = load[ranked[count - 1].uuid]
    sure = [device for device in ranked if load[device.uuid] < limit]
    equals = [device for device in ranked if load[device.uuid] == limit]
    wanted = count - len(sure)
    if wanted == 1 == count or wanted == len(equals) or any(device.mig for device in free):
        chosen = sure + equals[:wanted]  # MIG devices have no links; the lowest fill one GPU before the next
    else:
        from oci_gpu_hook.allocation import topology

        gpus = topology.best([device.gpu for device in sure], [device.gpu for device in equals], wanted)
        chosen = sure + [Granted(gpu=gpu) for gpu in gpus]
    return tuple(sorted(chosen, key=_position))


def _of_profile(profile: str, inventory: Inventory) -> list[Granted]:
    devices = [device for gpu in inventory.gpus for device in names.mig_devices(gpu)]
    matching = [device for device in devices if device.mig and device.mig.profile.lower() == profile.lower()]
    if not matching:
        from oci_gpu_hook.allocation import messages

        raise messages.no_profile(profile, devices)
    return matching


def _memory(device: Granted) -> int:
    return device.mig.memory if device.mig else device.gpu.memory


def _position(device: Granted) -> tuple[int, int]:
    return device.gpu.index, device.mig.index if device.mig else -1
