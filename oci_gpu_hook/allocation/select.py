"""Chooses the devices that a request gets, given the current leases. Pure and deterministic.

A named device is granted unless its holders forbid it. For a request by count, `by_count` chooses.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.conflict import obstacle
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.request.model import IN_THE_BUNDLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request


def choose(request: Request, devices: Sequence[Device], held: Sequence[Lease]) -> tuple[Device, ...]:
    """Return the devices of the host that the request gets, given the leases `held`.

    Raises InvalidInput for a device that does not exist, AllocationError for more devices than the host has, Busy for
    devices that others hold.
    """
    if request.count is not None:
        from oci_gpu_hook.allocation import by_count

        return by_count.choose(request, devices, held)
    named = vendors.of(request.kind).resolve(request.devices, devices)
    for device in named:
        lease = obstacle(device, request, held)
        if lease is not None:
            from oci_gpu_hook.allocation import messages

            raise messages.held(device, request, lease)
    if request.is_share:
        _check_room(named, request, held)
    return named


def _check_room(named: Sequence[Device], request: Request, held: Sequence[Lease]) -> None:
    """Raise Busy if a share does not fit onto one of the named devices, AllocationError if it never could."""
    from oci_gpu_hook.allocation import share_messages, shares

    for device in named:
        if request.memory_limit > device.shareable:
            raise share_messages.too_large(device, request)
        if not shares.fits(device, request, held):
            raise share_messages.no_room(device, request, held)


def under_policy(request: Request, config: Config) -> Request:
    """Return the request, changed as the configuration demands. A share is one under every policy.

    What somebody else has put into a container is held shared under every policy: the engine that gives each container
    the display's GPU would otherwise have all but the first one refused.
    """
    if request.is_share:
        return request.replace(spread=config.allocation_placement == "spread")
    if config.allocation_policy == "exclusive" and not request.exclusive and request.source != IN_THE_BUNDLE:
        return request.replace(exclusive=True)
    return request
