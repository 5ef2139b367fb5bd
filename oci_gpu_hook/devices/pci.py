"""Reads from sysfs which GPUs are on the PCI bus, and a GPU's place: NUMA node, PCIe switch, DRM devices.

Formats: Linux Documentation/ABI/testing/sysfs-bus-pci; DRM names as drivers/gpu/drm/drm_sysfs.c makes them.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.files import number_in, read_text
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

NVIDIA: Final = "0x10de"  # PCI-SIG's numbers for vendors, in sysfs's form
AMD: Final = "0x1002"
INTEL: Final = "0x8086"
# VGA and 3D controllers, processing accelerators (PCI code and ID assignment specification)
_CLASSES: Final = ("0x03", "0x12")


class Place(Record):
    """The place of a GPU. A member is empty if sysfs does not show it."""

    numa_node: int | None = None
    pcie_switch: str = ""
    drm: tuple[str, ...] = ()


def gpus(sys_root: str) -> Iterator[tuple[str, str]]:
    """Yield the address (in sysfs's form) and vendor of each GPU on the bus, with or without a driver."""
    try:
        addresses = sorted(os.listdir(f"{sys_root}/bus/pci/devices"))
    except OSError:
        return
    for address in addresses:
        if attribute(sys_root, address, "class").startswith(_CLASSES):
            yield address, attribute(sys_root, address, "vendor")


def is_seen(sys_root: str) -> bool:
    """Tell whether sysfs shows a PCI bus with anything on it."""
    try:
        return bool(os.listdir(f"{sys_root}/bus/pci/devices"))
    except OSError:
        return False


def driver(sys_root: str, address: str) -> str:
    """Return the name of the driver bound to the device at an address, "" if there is none."""
    try:
        return os.path.basename(os.readlink(f"{sys_root}/bus/pci/devices/{address}/driver"))
    except OSError:
        return ""


def place(sys_root: str, address: str) -> Place:
    """Return the place of the PCI device with that address (in sysfs's form)."""
    device = f"{sys_root}/bus/pci/devices/{address}"
    return Place(
        numa_node=number_in(attribute(sys_root, address, "numa_node")),  # -1: the firmware does not say
        pcie_switch=_switch(device),
        drm=_drm(device),
    )


def attribute(sys_root: str, address: str, name: str) -> str:
    """Return an attribute of the PCI device with that address, "" if it has none."""
    return (read_text(f"{sys_root}/bus/pci/devices/{address}/{name}") or "").strip()


def _switch(device: str) -> str:
    """Return the address of the switch's upstream port, the parent of the device's downstream port."""
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
