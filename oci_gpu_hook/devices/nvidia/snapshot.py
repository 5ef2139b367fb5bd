"""The whole inventory: the stored one while its facts hold, else one that is made now. For people's commands.

A container's start takes what its request needs (for_request.py), and comes here when there is nothing to take.
"""

from __future__ import annotations

from oci_gpu_hook.devices.nvidia import host_nodes, stored
from oci_gpu_hook.devices.nvidia.model import Inventory, Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.base.config.model import Config


def load(config: Config, *, detailed: bool = False, refresh: bool = False) -> Inventory:
    """Return the inventory. Raises DriverError when the host has no driver, or none whose parts fit together.

    detailed: with what only NVML can tell, unless NVML fails (then a warning in it says why). refresh: made now, even
    where the stored one holds.
    """
    return get(config, detailed=detailed, force=refresh).inventory


def get(config: Config, *, detailed: bool = False, force: bool = False) -> Snapshot:
    """Do what `load` does, and return also what tells later whether it still holds. force: load's `refresh`."""
    found = None if force else stored.whole(config)
    if found is None or (detailed and not found.inventory.detailed):
        from oci_gpu_hook.devices.nvidia import refresh  # with all that discovers

        found = refresh.make(config, detailed=detailed, refresh=force)
        nodes, missing = host_nodes.look(found.basis.candidates, config.dev_root)
        inventory = found.inventory.replace(nodes=nodes, missing_nodes=missing)
        found = Snapshot(inventory=inventory, basis=found.basis)
    return found
