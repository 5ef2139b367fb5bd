"""The GPUs that installers tell other schedulers of."""

from __future__ import annotations

from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.request.model import DEFAULT_KIND, IN_THE_BUNDLE, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from oci_gpu_hook.devices.edits import DeviceNode
    from oci_gpu_hook.devices.model import Device

# `all` asks NVML where there are GPUs in MIG mode, whose parts only it can name.
_WHATEVER: Final = Request(devices=("all",), driver_capabilities=(), source=IN_THE_BUNDLE)


def uuids(config_path: str) -> list[str]:
    """Return the UUIDs of what this host can hand out one by one. Raises HookError where it has no driver."""
    return [device.uuid for device in _inventory_and_devices(config_path)[1]]


def with_nodes(config_path: str) -> list[tuple[Device, Sequence[DeviceNode]]]:
    """Return these devices in order, each with the nodes that are its own alone.

    Raises HookError where the host has no driver, or lacks a node.
    """
    inventory, devices = _inventory_and_devices(config_path)
    vendor = vendors.of(DEFAULT_KIND)
    common = {node.path for node in vendor.device_edits(_WHATEVER, inventory, ()).device_nodes}
    found: list[tuple[Device, Sequence[DeviceNode]]] = []
    for device in devices:
        nodes = vendor.device_edits(_WHATEVER, inventory, (device,)).device_nodes
        found.append((device, [node for node in nodes if node.path not in common]))
    return found


def _inventory_and_devices(config_path: str) -> tuple[Any, list[Device]]:
    config = configs.of_this_user(configs.load(config_path))
    vendor = vendors.of(DEFAULT_KIND)
    inventory = vendor.snapshot(_WHATEVER, config).inventory
    devices = vendor.devices(inventory, config)
    return inventory, [device for device in devices if device.is_single and not device.fault]
