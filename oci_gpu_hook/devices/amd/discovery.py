"""Finds AMD's GPUs, in the order and by the names of AMD's container toolkit.

Source: ROCm/container-toolkit, internal/amdgpu/amdgpu.go (GetAMDGPUs, GetUniqueIdToDeviceIndexMap) and internal/cdi: a
device for each render node that KFD's topology has, by its number; a GPU's `unique_id` in hexadecimal stands for all
its parts; each container gets /dev/kfd and the DRM nodes of its devices. Names beyond the toolkit's are PCI addresses,
and `ID:N` for the part N of a GPU, by which a part stays the same when other GPUs come or go.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.files import read_text
from oci_gpu_hook.devices import pci
from oci_gpu_hook.devices.amd import kfd
from oci_gpu_hook.devices.cdi.model import Described
from oci_gpu_hook.devices.edits import ContainerEdits
from oci_gpu_hook.devices.kernel import drm
from oci_gpu_hook.devices.kernel.room import Seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.amd.kfd import Node

KIND: Final = "amd.com/gpu"
UNSEEN: Final = "the kernel's KFD lists no AMD GPU (/sys/class/kfd)"
_MEMORY_OF_CARDS: Final = 2 << 30
_SAME_GPU, _OTHER_GPU = 2, 1  # links between parts of one GPU, and between GPUs: kernels say that there is one


def look(config: Config, *, detailed: bool) -> Seen:
    """Return AMD's GPUs. detailed: with memory, places, links and products."""
    sys_root = config.sys_root
    nodes = kfd.nodes(sys_root)
    index_of = {node.number: index for index, node in enumerate(nodes)}
    address_of = {node.number: node.address for node in nodes}
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(node.address, []).append(node)
    found: list[Described] = []
    for group in groups.values():
        for part, node in enumerate(group):
            more = _details(sys_root, node, address_of, index_of) if detailed else {}
            drm_names = _drm(sys_root, node)
            more["undivided"] = max(_of_whole(node), key=len)  # as on record (devices.cdi)
            more["links"] = drm.links(node.address, drm_names) if part == 0 else ()
            edits = ContainerEdits(device_nodes=drm.nodes(drm_names, config))
            names = (str(index_of[node.number]), *_names(node, part, len(group)))
            found += [Described(name=name, file=0, edits=edits, **more) for name in names]
        if len(group) > 1:
            together = ContainerEdits(device_nodes=drm.nodes(_drm(sys_root, *group), config))
            found += [Described(name=name, file=0, edits=together) for name in _of_whole(group[0])]
    everyone = ContainerEdits(device_nodes=(drm.node("kfd", config),))
    return Seen(devices=tuple(found), told_by=f"{sys_root}/{kfd.TOPOLOGY}", edits=everyone)


def standing(config: Config) -> str:
    """Return "card", "integrated" for GPUs that are parts of processors only, "" for none."""
    nodes = kfd.nodes(config.sys_root)
    if not nodes:
        return ""
    is_card = any(not node.cores and _is_large(kfd.memory(config.sys_root, node.number)) for node in nodes)
    return "card" if is_card else "integrated"


def _is_large(memory: int) -> bool:
    """Tell whether memory is that of a card; a processor's GPU has a small part of the machine's."""
    return not 0 < memory < _MEMORY_OF_CARDS


def facts(config: Config) -> list[Any]:
    """Return what changes when GPUs come, go, or are partitioned in another way."""
    try:
        names = sorted(filter(drm.is_node, os.listdir(f"{config.sys_root}/class/drm")))
    except OSError:
        names = []
    return [kfd.generation(config.sys_root), names]


def _names(node: Node, part: int, parts: int) -> Iterator[str]:
    """Yield the names of a device beside its index."""
    for name in _of_whole(node):
        yield name if parts == 1 else f"{name}:{part}"


def _of_whole(node: Node) -> Iterator[str]:
    """Yield the names of a GPU."""
    if node.unique_id:
        yield f"0x{node.unique_id:x}"
    yield node.address


def _drm(sys_root: str, *nodes: Node) -> tuple[str, ...]:
    """Return the names of the DRM nodes: a part's are those of its own platform device."""
    renders = [f"renderD{node.render}" for node in nodes]
    found = [drm.of_device(f"{sys_root}/class/drm/{render}/device") or (render,) for render in renders]
    return tuple(name for names in found for name in names)


def _details(sys_root: str, node: Node, address_of: Mapping[int, str], index_of: Mapping[int, int]) -> dict[str, Any]:
    place = pci.place(sys_root, node.address)
    peers = [
        (str(index_of[other]), _SAME_GPU if address_of[other] == node.address else _OTHER_GPU)
        for other in kfd.links(sys_root, node.number)
        if other in index_of
    ]
    return {
        "memory": kfd.memory(sys_root, node.number),
        "numa_node": place.numa_node,
        "pcie_switch": place.pcie_switch,
        "peers": tuple(peers),
        "product": _product(sys_root, node),
    }


def _product(sys_root: str, node: Node) -> str:
    """Return the product that a board says it is, otherwise the processor, gfx942 for 90402."""
    said = (read_text(f"{sys_root}/bus/pci/devices/{node.address}/product_name") or "").strip()
    if said or not node.gfx:
        return said
    return f"gfx{node.gfx // 10000}{node.gfx // 100 % 100:x}{node.gfx % 100:x}"
