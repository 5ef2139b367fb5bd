"""The inventory as far as a request needs it: what only NVML can tell is dear, and few ask for it."""

from __future__ import annotations

from oci_gpu_hook.allocation.names import of_mig
from oci_gpu_hook.devices.nvidia import snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.devices.nvidia.snapshot import Held
    from oci_gpu_hook.request.model import Request


def hold(request: Request, config: Config, *, whole: bool = False) -> Held:
    """Return the inventory, with what only NVML knows where the request needs it. Raises DriverError.

    Whether it does may depend on the host: `all` names MIG devices where there are any, and NVML knows their UUIDs.
    whole: also with what cannot be in the request's plan.
    """
    needed = needs_details(request)
    served = None if whole else request
    held = snapshot.hold(config, detailed=needed, request=served)
    if not needed and needs_details(request, held.inventory):
        held = snapshot.hold(config, detailed=True, request=served)
    return held


def needs_details(request: Request, inventory: Inventory | None = None) -> bool:
    """Tell whether the request needs what only NVML knows: memory, NVLinks, MIG devices, some of its requirements.

    It may depend on the host: `all` names MIG devices where there are GPUs in MIG mode, which the inventory tells.
    """
    if request.requirements:
        from oci_gpu_hook.request import requirements

        if requirements.needs_nvml(request.requirements):
            return True
    if request.count is not None:
        return bool(request.devices) or request.memory > 0 or request.count > 1
    if True in [of_mig(name) for name in request.devices]:
        return True
    if inventory is None or inventory.detailed or True not in [gpu.mig_enabled for gpu in inventory.gpus]:
        return False
    return "all" in [name.lower() for name in request.devices]
