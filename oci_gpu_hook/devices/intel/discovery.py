"""Finds Intel's GPUs: functions on the PCI bus that the driver i915 or xe has, with their DRM nodes.

Source: intel/intel-resource-drivers-for-kubernetes, pkg/gpu/discovery and pkg/gpu/cdihelpers: a device for each GPU,
and for each virtual function that a DRM driver has, called `0000-03-00-0-0x56c0` (address and product) or, in the
classic style, `card1`. An index and the PCI address are names here, too. Memory: Intel's i915 for data centres says
`lmem_total_bytes` of the card, xe `physical_vram_size_bytes` of each tile; other kernels say nothing.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.files import number_in, read_text
from oci_gpu_hook.devices import pci
from oci_gpu_hook.devices.cdi.model import Described
from oci_gpu_hook.devices.edits import ContainerEdits
from oci_gpu_hook.devices.kernel import drm
from oci_gpu_hook.devices.kernel.room import Seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config

KIND: Final = "intel.com/gpu"
UNSEEN: Final = "no GPU has the driver i915 or xe"
_DRIVERS: Final = ("i915", "xe")
_INTEGRATED: Final = "0000:00:"  # a processor's own devices are on its first bus


def look(config: Config, *, detailed: bool) -> Seen:
    """Return Intel's GPUs in the order of the bus. detailed: with memory and places."""
    found: list[Described] = []
    places = [(address, nodes) for address in _addresses(config.sys_root) if (nodes := _drm(config.sys_root, address))]
    for index, (address, nodes) in enumerate(places):
        product = pci.attribute(config.sys_root, address, "device")
        cards = [name for name in nodes if name.startswith("card")]
        own = f"{address.replace(':', '-').replace('.', '-')}-{product}"
        more = _details(config.sys_root, address, cards, product) if detailed else {}
        edits = ContainerEdits(device_nodes=drm.nodes(nodes, config))
        links = drm.links(address, nodes)
        names = (str(index), own, address, *cards)
        found += [Described(name=name, file=0, edits=edits, links=links, **more) for name in names]
    return Seen(devices=tuple(found), told_by=f"{config.sys_root}/bus/pci", edits=ContainerEdits())


def standing(config: Config) -> str:
    """Return "card", "integrated" for GPUs that are parts of processors only, "" for none."""
    addresses = [address for address in _addresses(config.sys_root) if _drm(config.sys_root, address)]
    if not addresses:
        return ""
    return "integrated" if all(address.startswith(_INTEGRATED) for address in addresses) else "card"


def facts(config: Config) -> list[Any]:
    """Return what changes when GPUs come or go."""
    return [[address, *_drm(config.sys_root, address)] for address in _addresses(config.sys_root)]


def _addresses(sys_root: str) -> list[str]:
    """Return the addresses of what the drivers have."""
    found: list[str] = []
    for driver in _DRIVERS:
        try:
            names = os.listdir(f"{sys_root}/bus/pci/drivers/{driver}")
        except OSError:
            continue
        found += [name for name in names if name.count(":") == 2]
    return sorted(found)


def _drm(sys_root: str, address: str) -> tuple[str, ...]:
    return drm.of_device(f"{sys_root}/bus/pci/devices/{address}")


def _details(sys_root: str, address: str, cards: list[str], product: str) -> dict[str, Any]:
    from oci_gpu_hook.devices.intel import products

    place = pci.place(sys_root, address)
    return {
        "product": products.name(product),
        "memory": _memory(f"{sys_root}/bus/pci/devices/{address}", cards),
        "numa_node": place.numa_node,
        "pcie_switch": place.pcie_switch,
    }


def _memory(device: str, cards: list[str]) -> int:
    said = [_number(f"{device}/drm/{card}/lmem_total_bytes") for card in cards]
    try:
        tiles = [name for name in os.listdir(device) if name.removeprefix("tile").isdecimal()]
    except OSError:
        tiles = []
    return sum(said) or sum(_number(f"{device}/{tile}/physical_vram_size_bytes") for tile in tiles)


def _number(path: str) -> int:
    return number_in(read_text(path)) or 0
