"""Returns the inventory as far as one request needs it, because some of it is slow to get: only NVML knows it."""

from __future__ import annotations

import os

from oci_gpu_hook.devices.nvidia import facts, stored
from oci_gpu_hook.devices.nvidia.model import RequestInventory, RequestSnapshot
from oci_gpu_hook.devices.nvidia.names import of_mig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.model import Inventory, Snapshot
    from oci_gpu_hook.devices.vendor import Request

_SICK: Final = "sick.json"  # devices.nvidia.sick.NAME, which a start imports only if there is such a file


def get(request: Request, config: Config) -> RequestSnapshot:
    """Return the inventory, completed by NVML if the request needs that. Raises DriverError.

    That may depend on the host: `all` includes MIG devices, whose UUIDs only NVML knows.
    """
    found = stored.for_request(request, config)
    if found is None or (needs_details(request, found.inventory) and not found.inventory.detailed):
        found = _made(request, config)
    if os.access(f"{config.state_dir}/{_SICK}", os.F_OK):
        from oci_gpu_hook.devices.nvidia import sick

        found = found.replace(inventory=found.inventory.replace(gpus=sick.marked(found.inventory.gpus, config)))
    if "mps" in request.features or (config.mps == "always" and "compute" in request.driver_capabilities):
        from oci_gpu_hook.devices.nvidia import mps

        found = found.replace(inventory=found.inventory.replace(mps=mps.find(config)))
    return found


def is_fresh(snapshot: RequestSnapshot | Snapshot, config: Config) -> bool:
    """Tell whether the facts that the inventory was made from are unchanged."""
    minors = [gpu.minor for gpu in snapshot.inventory.gpus]
    basis = snapshot.basis
    return basis.facts == facts.gather(config, minors, basis.watched, basis.present, basis.texts)


def needs_details(request: Request, inventory: Inventory | RequestInventory | None = None) -> bool:
    """Tell whether the request needs what only NVML knows: memory, NVLinks, MIG devices, some requirements.

    That may depend on the host: `all` includes MIG devices if the inventory has GPUs in MIG mode.
    """
    if request.requirements:
        from oci_gpu_hook.devices.nvidia import requirements

        if requirements.needs_nvml(request.requirements):
            return True
    if request.memory_limit or request.cores:
        return True
    if request.count is not None:
        return bool(request.devices) or request.memory > 0 or request.count > 1
    if True in [of_mig(name) for name in request.devices]:
        return True
    if inventory is None or inventory.detailed or True not in [gpu.mig_enabled for gpu in inventory.gpus]:
        return False
    return "all" in [name.lower() for name in request.devices]


def selected(inventory: Inventory, request: Request) -> RequestInventory:
    """Return the part of an inventory that a request can use."""
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
