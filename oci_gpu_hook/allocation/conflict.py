"""Finds the leases that conflict with a request. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_gpu_hook.allocation.model import Lease, LeasedDevice
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


def _overlaps(lease: Lease, device: Device) -> bool:
    for leased in lease.devices:  # noqa: SIM110  a generator costs each start on a crowded host more
        if is_of(leased, device):
            return True
    return False


def is_of(leased: LeasedDevice, device: Device) -> bool:
    """Tell whether a leased device is a device, a part of it, or what it is a part of."""
    if leased.kind != device.kind:
        return False
    if leased.part and device.whole:
        return leased.part == device.uuid
    if leased.whole:
        return leased.whole == (device.whole or device.uuid) or _is_divided_since(leased.whole, device)
    return leased.part in device.parts  # restored from a journal, which does not know the whole device


def _is_divided_since(uuid: str, device: Device) -> bool:
    """Tell whether a leased device and one that is there now are a GPU and a part of it: somebody has changed its mode.

    Both have the same nodes, and the container that holds one can use the other.
    """
    if not device.undivided:
        return False
    if device.uuid == device.undivided:
        return uuid.startswith(f"{device.undivided}:")
    return uuid == device.undivided
