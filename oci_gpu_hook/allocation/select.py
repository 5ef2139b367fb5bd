"""Which devices a request gets, given who holds what. Pure and deterministic.

By name, a device is granted unless its holders forbid it. By count, `counting` chooses among those that are free.
"""

from __future__ import annotations

from oci_gpu_hook.allocation import names
from oci_gpu_hook.allocation.lease_table import Device
from oci_gpu_hook.base.errors import AllocationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from oci_gpu_hook.allocation.lease_table import Lease
    from oci_gpu_hook.allocation.model import Granted
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.request.model import Request


class Busy(AllocationError):
    """The devices exist, but others hold them: here waiting can help."""


def choose(request: Request, inventory: Inventory, held: Sequence[Lease]) -> tuple[Granted, ...]:
    """Return the devices that the request gets while `held` is held.

    Raises InvalidInput for a device that does not exist, AllocationError for more than the host has, Busy for what
    others hold.
    """
    if request.count is not None:
        from oci_gpu_hook.allocation import by_count

        return by_count.choose(request, inventory, held)
    granted = names.resolve(request.devices, inventory)
    for device in granted:
        lease = obstacle(device, request, held)
        if lease is not None:
            from oci_gpu_hook.allocation import messages

            raise messages.held(device, lease)
    return granted


def leased(device: Granted) -> Device:
    """Return the form in which a granted device is recorded."""
    return Device(gpu=device.gpu.uuid, mig=device.mig.uuid if device.mig else "")


def holders(device: Granted, held: Iterable[Lease]) -> list[Lease]:
    """Return the leases that hold a device, the GPU it is part of, or a part of it."""
    return [lease for lease in held if _overlap(lease, device)]


def obstacle(device: Granted, request: Request, held: Iterable[Lease]) -> Lease | None:
    """Return a lease that keeps the request from a device."""
    for lease in held:
        if (request.exclusive or lease.exclusive) and _overlap(lease, device):
            return lease
    return None


def _overlap(lease: Lease, device: Granted) -> bool:
    gpu, mig = device.gpu, device.mig
    for leased in lease.devices:
        if leased.mig and mig:
            if leased.mig == mig.uuid:
                return True
        elif leased.gpu:
            if leased.gpu == gpu.uuid:
                return True
        elif leased.mig in [part.uuid for part in gpu.mig_devices]:  # made anew from a journal, which knows no parents
            return True
    return False
