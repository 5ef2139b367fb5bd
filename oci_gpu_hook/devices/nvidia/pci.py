"""What sysfs says of a GPU's place: NUMA node, PCIe switch, DRM devices.

Formats: Linux Documentation/ABI/testing/sysfs-bus-pci; DRM names as drivers/gpu/drm/drm_sysfs.c makes them.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.files import read_text
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia.model import pci_address


class Place(Record):
    """Where a GPU is. Each member is empty where sysfs does not tell."""

    numa_node: int | None = None
    pcie_switch: str = ""
    drm: tuple[str, ...] = ()


def place(sys_root: str, bus_id: str) -> Place:
    """Return the place of the PCI device with that address (domain in eight hex digits)."""
    device = f"{sys_root}/bus/pci/devices/{pci_address(bus_id)}"
    node = (read_text(f"{device}/numa_node") or "").strip()
    return Place(
        numa_node=int(node) if node.isdecimal() else None,  # -1: the firmware does not tell
        pcie_switch=_switch(device),
        drm=_drm(device),
    )


def _switch(device: str) -> str:
    """Return the address of the switch's upstream port: the parent of the downstream port that the device hangs on."""
    try:
        parts = os.path.realpath(device).split("/")
    except OSError:
        return ""
    upstream = parts[-3:-2]
    return upstream[0] if upstream and _is_address(upstream[0]) else ""


def _is_address(name: str) -> bool:
    return name.count(":") == 2 and "." in name


def _drm(device: str) -> tuple[str, ...]:
    try:
        names = os.listdir(f"{device}/drm")
    except OSError:
        return ()
    return tuple(sorted(name for name in names if name.startswith(("card", "renderD")) and "-" not in name))
