"""Returns the whole inventory: the stored one while its facts are unchanged, otherwise a new one. For commands.

A container's start uses for_request.py, which calls this module if no inventory is stored.
"""

from __future__ import annotations

from oci_gpu_hook.devices.nvidia import host_nodes, sick, stored
from oci_gpu_hook.devices.nvidia.model import Inventory, Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.base.config.model import Config


def load(config: Config, *, detailed: bool = False, refresh: bool = False, keep: bool = True) -> Inventory:
    """Return the inventory. Raises DriverError if the host has no driver, or one whose parts do not fit together.

    detailed: completed by NVML, unless NVML fails (then the inventory has a warning that says why). refresh: make it
    now, even if the stored one is valid. keep: False to store nothing.
    """
    return get(config, detailed=detailed, force=refresh, keep=keep).inventory


def get(config: Config, *, detailed: bool = False, force: bool = False, keep: bool = True) -> Snapshot:
    """Do what `load` does, but return the snapshot, which can be checked later. force: `refresh` of `load`."""
    found = None if force else stored.whole(config)
    if found is None or (detailed and not found.inventory.detailed):
        from oci_gpu_hook.devices.nvidia import refresh  # imports the whole discovery

        found = refresh.make(config, detailed=detailed, refresh=force, keep=keep)
        nodes, missing = host_nodes.look(found.basis.candidates, config.dev_root)
        inventory = found.inventory.replace(nodes=nodes, missing_nodes=missing)
        found = Snapshot(inventory=inventory, basis=found.basis)
    if gpus := sick.marked(found.inventory.gpus, config):
        found = found.replace(inventory=found.inventory.replace(gpus=gpus))
    return found
