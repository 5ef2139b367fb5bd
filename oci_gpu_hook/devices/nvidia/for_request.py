"""The inventory as far as one request needs it: only NVML can tell some of it, which is slow, and few ask for that."""

from __future__ import annotations

from oci_gpu_hook.devices.nvidia import facts, stored
from oci_gpu_hook.devices.nvidia.model import RequestInventory, RequestSnapshot
from oci_gpu_hook.devices.nvidia.names import of_mig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.model import Inventory, Snapshot
    from oci_gpu_hook.devices.vendor import Request


def get(request: Request, config: Config) -> RequestSnapshot:
    """Return the inventory, with what only NVML knows where the request needs it. Raises DriverError.

    Whether it does may depend on the host: `all` names MIG devices where there are any, and NVML knows their UUIDs.
    """
    found = stored.for_request(request, config)
    if found is None or (needs_details(request, found.inventory) and not found.inventory.detailed):
        found = _made(request, config)
    if "mps" in request.features or (config.mps == "always" and "compute" in request.driver_capabilities):
        from oci_gpu_hook.devices.nvidia import mps

        found = found.replace(inventory=found.inventory.replace(mps=mps.find(config)))
    return found


def is_fresh(snapshot: RequestSnapshot | Snapshot, config: Config) -> bool:
    """Tell whether the facts that the inventory was made from are the same now."""
    minors = [gpu.minor for gpu in snapshot.inventory.gpus]
    basis = snapshot.basis
    return basis.facts == facts.gather(config, minors, basis.watched, basis.present, basis.texts)


def needs_details(request: Request, inventory: Inventory | RequestInventory | None = None) -> bool:
    """Tell whether the request needs what only NVML knows: memory, NVLinks, MIG devices, some of its requirements.

    It may depend on the host: `all` names MIG devices where there are GPUs in MIG mode, which the inventory tells.
    """
    if request.requirements:
        from oci_gpu_hook.devices.nvidia import requirements

        if requirements.needs_nvml(request.requirements):
            return True
    if request.count is not None:
        return bool(request.devices) or request.memory > 0 or request.count > 1
    if True in [of_mig(name) for name in request.devices]:
        return True
    if inventory is None or inventory.detailed or True not in [gpu.mig_enabled for gpu in inventory.gpus]:
        return False
    return "all" in [name.lower() for name in request.devices]


def selected(inventory: Inventory, request: Request) -> RequestInventory:
    """Return what a request can have of an inventory."""
    wanted = stored.wanted_by(request)
    fields = dict(inventory.__dict__)
    del fields["unclaimed"]
    for name in ("libraries", "files", "links", "nodes"):
        fields[name] = tuple(
            [each for each in fields[name] if not each.capabilities or not wanted.isdisjoint(each.capabilities)]
        )
    fields["missing_nodes"] = tuple([missing for missing in inventory.missing_nodes if wanted & {*missing[1]}])
    return RequestInventory(wanted=wanted, **fields)


def _made(request: Request, config: Config) -> RequestSnapshot:
    from oci_gpu_hook.devices.nvidia import snapshot

    whole = snapshot.get(config, detailed=needs_details(request))
    if not whole.inventory.detailed and needs_details(request, whole.inventory):
        whole = snapshot.get(config, detailed=True)
    return RequestSnapshot(inventory=selected(whole.inventory, request), basis=whole.basis)
