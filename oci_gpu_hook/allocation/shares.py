"""Shares of devices: what is left of one, whether a request fits, and on which device it is placed. Pure.

Shares of a device are granted as long as their memory and their cores together are no more than it has. A container
without limits, which has the whole device beside others, takes nothing of that; shares are placed where there are none.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.conflict import holders, is_of
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request

ALL_CORES: Final = 100  # percent
_PARTS: Final = 1 << 20  # in how many parts a device is divided to compare what is left of it


class Left(Record):
    """What shares may still have of a device: bytes, and a percentage of its cores. Kept places can make it negative.

    others: how many containers hold it without limits.
    """

    memory: int
    cores: int
    others: int = 0


class Standing(Record):
    """How a device stands, for people and tools: bytes, and percentages of its cores.

    memory: what shares may have together. left: what a container could get now, nothing beside an exclusive holder.
    """

    memory: int
    memory_reserved: int
    memory_left: int
    cores_reserved: int
    cores_left: int

    @property
    def is_shared(self) -> bool:
        """Whether any container has a part."""
        return self.memory_reserved > 0 or self.cores_reserved > 0


def standing(device: Device, held: Iterable[Lease]) -> Standing:
    """Return how a device stands with these leases."""
    on_it = holders(device, held)
    found = left(device, on_it)
    is_open = not any(lease.exclusive for lease in on_it)
    return Standing(
        memory=device.shareable,
        memory_reserved=device.shareable - found.memory,
        memory_left=max(found.memory, 0) if is_open else 0,
        cores_reserved=ALL_CORES - found.cores,
        cores_left=max(found.cores, 0) if is_open else 0,
    )


def part_of(lease: Lease, device: Device) -> tuple[int, int]:
    """Return the memory and the percentage of cores that a lease has of a device, (0, 0) without limits."""
    of_device = [leased for leased in lease.devices if is_of(leased, device)]
    return sum(leased.memory for leased in of_device), sum(leased.cores for leased in of_device)


def left(device: Device, held: Iterable[Lease]) -> Left:
    """Return what is left of a device beside the shares in these leases."""
    memory, cores, others = device.shareable, ALL_CORES, 0
    for lease in held:
        for leased in lease.devices:
            if is_of(leased, device):
                memory -= leased.memory
                cores -= leased.cores
                others += not leased.is_share
    return Left(memory=memory, cores=cores, others=others)


def fits(device: Device, request: Request, held: Iterable[Lease]) -> bool:
    """Tell whether a share fits onto a device. What is not limited always fits."""
    found = left(device, held)
    return not (request.memory_limit > max(found.memory, 0) or request.cores > max(found.cores, 0))


def load(device: Device, request: Request, held: Sequence[Lease]) -> tuple[int, int]:
    """Return a key by which devices are sorted that a share fits onto; the lowest is the best.

    Devices that somebody holds without limits come last. Of the others, the fullest is the best: so large parts stay
    free for large requests. With `[allocation] placement = "spread"` it is the emptiest.
    """
    found = left(device, held)
    rest = (found.cores - request.cores) * _PARTS // ALL_CORES
    if device.shareable > 0:
        rest += (found.memory - request.memory_limit) * _PARTS // device.shareable
    return found.others, -rest if request.spread else rest
