"""Finds the leases that conflict with a request. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request


def holders(device: Device, held: Iterable[Lease]) -> list[Lease]:
    """Return the leases of a device, of the device that it is part of, or of a part of it."""
    return [lease for lease in held if _overlaps(lease, device)]


def obstacle(device: Device, request: Request, held: Iterable[Lease]) -> Lease | None:
    """Return a lease that keeps the request from getting a device."""
    for lease in held:
        if (request.exclusive or lease.exclusive) and _overlaps(lease, device):
            return lease
    return None


def available(devices: Iterable[Device], request: Request, held: Sequence[Lease]) -> list[Device]:
    """Return the devices that a request can get now: not held at all if it is exclusive, else not held exclusively."""
    return [device for device in devices if obstacle(device, request, held) is None]


def _overlaps(lease: Lease, device: Device) -> bool:
    for leased in lease.devices:
        if leased.kind != device.kind:
            continue
        if leased.part and device.whole:
            if leased.part == device.uuid:
                return True
        elif leased.whole:
            if leased.whole == (device.whole or device.uuid):
                return True
        elif leased.part in device.parts:  # restored from a journal, which does not know the whole device
            return True
    return False
