"""The inventory as far as a request needs it: what only NVML can tell is dear, and few ask for it."""

from __future__ import annotations

from oci_gpu_hook.allocation import grant as allocation
from oci_gpu_hook.inventory import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.config import Config
    from oci_gpu_hook.inventory.cache import Held
    from oci_gpu_hook.request.model import Request


def hold(request: Request, config: Config, *, whole: bool = False) -> Held:
    """Return the inventory, with what only NVML knows where the request needs it. Raises DriverError.

    Whether it does may depend on the host: `all` names MIG devices where there are any, and NVML knows their UUIDs.
    whole: also with what cannot be in the request's plan.
    """
    needed = needs_details(request)
    served = None if whole else request
    held = cache.hold(config, detailed=needed, request=served)
    if not needed and allocation.needs_details(request, held.inventory):
        held = cache.hold(config, detailed=True, request=served)
    return held


def needs_details(request: Request) -> bool:
    """Tell whether the request needs facts that only NVML has, whatever the host."""
    if request.requirements:
        from oci_gpu_hook.request import requirements

        if requirements.needs_nvml(request.requirements):
            return True
    return allocation.needs_details(request)
