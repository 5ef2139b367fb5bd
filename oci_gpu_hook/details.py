"""Whether a request needs facts that only NVML has; asked before the inventory is loaded."""

from __future__ import annotations

from oci_gpu_hook.allocation import grant as allocation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.request.model import Request


def needs_details(request: Request) -> bool:
    """Tell whether the request needs facts that only NVML has."""
    if request.requirements:
        from oci_gpu_hook.request import requirements

        if requirements.needs_nvml(request.requirements):
            return True
    return allocation.needs_details(request)
