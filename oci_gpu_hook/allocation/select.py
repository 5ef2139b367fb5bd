"""Which devices a request gets, given who holds what. Pure and deterministic.

By name, a device is granted unless its holders forbid it. By count, `by_count` chooses among those that are free.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.conflict import obstacle
from oci_gpu_hook.devices import vendors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request


def choose(request: Request, devices: Sequence[Device], held: Sequence[Lease]) -> tuple[Device, ...]:
    """Return those of the host's devices that the request gets while `held` is held.

    Raises InvalidInput for a device that does not exist, AllocationError for more than the host has, Busy for what
    others hold.
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
    return named


def under_policy(request: Request, config: Config) -> Request:
    """Return the request as the configuration lets it stand."""
    if config.allocation_policy == "exclusive" and not request.exclusive:
        return request.replace(exclusive=True)
    return request
