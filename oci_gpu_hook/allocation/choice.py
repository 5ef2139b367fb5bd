"""Which devices a request gets, given who holds what. Pure and deterministic.

By name, a device is granted unless its holders forbid it. By count, of the devices that may be granted those with the
fewest holders come first; among equals `topology` decides, then the lowest index.
"""

from __future__ import annotations

from oci_gpu_hook.allocation import names, topology
from oci_gpu_hook.allocation.leases import Device, Lease
from oci_gpu_hook.allocation.model import Granted
from oci_gpu_hook.errors import AllocationError, InvalidInput, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.allocation.leases import Waiter
    from oci_gpu_hook.inventory.model import Inventory
    from oci_gpu_hook.request.model import Request

_LISTED: Final = 8  # holders that a message names
GIB: Final = 1 << 30


class Busy(AllocationError):
    """The devices exist, but others hold them: here waiting can help."""


def choose(request: Request, inventory: Inventory, held: Sequence[Lease]) -> tuple[Granted, ...]:
    """Return the devices that the request gets while `held` is held.

    Raises InvalidInput for a device that does not exist, AllocationError for more than the host has, Busy for what
    others hold.
    """
    if request.count is None:
        granted = names.resolve(request.devices, inventory)
        for device in granted:
            _check_free(device, request, held)
        return granted
    candidates = eligible(request, inventory)
    if request.count > len(candidates):
        raise _too_many(request, inventory, candidates, held)
    free = available(candidates, request, held)
    if request.count > len(free):
        raise _busy(request, candidates, held, len(free))
    return _balanced(free, request.count, held)


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
    return [device for device in devices if _obstacle(device, request, held) is None]


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


def leased(device: Granted) -> Device:
    """Return the form in which a granted device is recorded."""
    return Device(gpu=device.gpu.uuid, mig=device.mig.uuid if device.mig else "")


def holders(device: Granted, held: Iterable[Lease]) -> list[Lease]:
    """Return the leases that hold a device, the GPU it is part of, or a part of it."""
    return [lease for lease in held if any(_overlap(other, device) for other in lease.devices)]


def _overlap(leased: Device, device: Granted) -> bool:
    if leased.mig and device.mig:
        return leased.mig == device.mig.uuid
    if not leased.gpu:  # made anew from a journal, which knows no parents
        return any(mig.uuid == leased.mig for mig in device.gpu.mig_devices)
    return leased.gpu == device.gpu.uuid


def _obstacle(device: Granted, request: Request, held: Iterable[Lease]) -> Lease | None:
    """Return a lease that keeps the request from a device."""
    return next((lease for lease in holders(device, held) if request.exclusive or lease.exclusive), None)


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
    if any(device.mig for device in free):  # MIG devices have no links; the lowest fill one GPU before the next
        chosen = sure + equals[:wanted]
    else:
        gpus = topology.best([device.gpu for device in sure], [device.gpu for device in equals], wanted)
        chosen = sure + [Granted(gpu=gpu) for gpu in gpus]
    return tuple(sorted(chosen, key=_position))


def _of_profile(profile: str, inventory: Inventory) -> list[Granted]:
    devices = [device for gpu in inventory.gpus for device in names.mig_devices(gpu)]
    matching = [device for device in devices if device.mig and device.mig.profile.lower() == profile.lower()]
    if not matching:
        profiles = sorted({device.mig.profile for device in devices if device.mig})
        why = f"this host has MIG devices of {', '.join(profiles)}" if profiles else "this host has no MIG device"
        remedy = "ask for one of these profiles" if profiles else "make MIG devices with nvidia-smi, or ask for GPUs"
        raise InvalidInput(f"MIG profile {quoted(profile)}", why, remedy)
    return matching


def _memory(device: Granted) -> int:
    return device.mig.memory if device.mig else device.gpu.memory


def _position(device: Granted) -> tuple[int, int]:
    return device.gpu.index, device.mig.index if device.mig else -1


def _check_free(device: Granted, request: Request, held: Iterable[Lease]) -> None:
    lease = _obstacle(device, request, held)
    if lease is None:
        return
    manner = "exclusively" if lease.exclusive else "too, and it was asked for exclusively"
    raise Busy(
        f"{names.label(device)} ({device.uuid}) cannot be granted",
        f"container {quoted(lease.container)} holds it {manner}",
        "stop that container, ask for another GPU, or ask by count with io.oci-gpu-hook.wait",
    )


def _too_many(
    request: Request, inventory: Inventory, candidates: Sequence[Granted], held: Sequence[Lease]
) -> AllocationError:
    why = f"this host has {len(candidates)}"
    if request.memory and not request.devices:
        whole = [gpu for gpu in inventory.gpus if not gpu.mig_enabled]
        unknown = sum(not gpu.memory for gpu in whole)
        why += f" such of {len(whole)}" + (f" (the memory of {unknown} is unknown)" if unknown else "")
    in_mig_mode = sum(gpu.mig_enabled for gpu in inventory.gpus)
    if in_mig_mode and not request.devices:
        why += f", and {in_mig_mode} in MIG mode, which are granted by MIG profile"
    if candidates:
        why += f"; {len(available(candidates, request, held))} free{_held_by(candidates, held)}"
    return AllocationError(_asked(request), why, f"ask for at most {len(candidates)}" if candidates else "ask for less")


def _busy(request: Request, candidates: Sequence[Granted], held: Sequence[Lease], free: int) -> Busy:
    why = f"of {len(candidates)} on this host {free} can be granted now{_held_by(candidates, held)}"
    return Busy(_asked(request), why, "try again when they are free, or wait for them with io.oci-gpu-hook.wait")


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
        for lease in holders(device, held):
            manner = " exclusively" if lease.exclusive else ""
            parts.append(f"{names.label(device)} held by {quoted(lease.container)}{manner}")
    if not parts:
        return ""
    more = [f"and {len(parts) - _LISTED} more"] if len(parts) > _LISTED else []
    return "; " + ", ".join(parts[:_LISTED] + more)


def _size(memory: int) -> str:
    return f"{memory // GIB}GiB" if memory % GIB == 0 else f"{memory} bytes"
