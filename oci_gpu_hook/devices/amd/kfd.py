"""Reads the topology that AMD's compute driver (KFD) shows in sysfs: which GPUs, and parts of GPUs, compute.

Source: Linux drivers/gpu/drm/amd/amdkfd/kfd_topology.c (node_show, mem_show, iolink_show) and kfd_crat.h; a directory
`nodes/N` for each processor, with lines `NAME NUMBER`. AMD's tools read the same: ROCm/k8s-device-plugin
(internal/pkg/amdgpu), ROCm/container-toolkit (internal/amdgpu), whose test data shows GPUs in the modes SPX and CPX.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.files import number_in, read_text
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

TOPOLOGY: Final = "class/kfd/kfd/topology"
_LINK_OF_GPUS: Final = "11"  # CRAT_IOLINK_TYPE_XGMI
_OF_FRAME_BUFFER: Final = ("1", "2")  # HSA_MEM_HEAP_TYPE_FB_PUBLIC, _PRIVATE


class Node(Record):
    """A GPU, or one of the parts that a GPU in a compute partition mode has.

    number: of its directory. render: N of /dev/dri/renderDN. address: of the GPU on the PCI bus, 0000:05:00.0.
    unique_id: of the GPU, shared by its parts, 0 for one without. cores: of a CPU that the GPU is in one chip with.
    """

    number: int
    render: int
    address: str
    unique_id: int
    cores: int
    gfx: int


def nodes(sys_root: str) -> tuple[Node, ...]:
    """Return the GPUs by their places on the bus, the parts of each by their render nodes."""
    found = []
    for number in _numbers(f"{sys_root}/{TOPOLOGY}/nodes"):
        said = _properties(f"{sys_root}/{TOPOLOGY}/nodes/{number}/properties")
        render = _number(said, "drm_render_minor")
        if not render or not _number(said, "simd_count"):
            continue  # a CPU, or a GPU whose render node another driver has
        found.append(
            Node(
                number=number,
                render=render,
                address=_address(_number(said, "domain"), _number(said, "location_id")),
                unique_id=_number(said, "unique_id"),
                cores=_number(said, "cpu_cores_count"),
                gfx=_number(said, "gfx_target_version"),
            )
        )
    return tuple(sorted(found, key=lambda node: (node.address, node.render)))


def memory(sys_root: str, number: int) -> int:
    """Return the bytes of memory that a GPU itself has."""
    banks = f"{sys_root}/{TOPOLOGY}/nodes/{number}/mem_banks"
    said = [_properties(f"{banks}/{bank}/properties") for bank in _numbers(banks)]
    return sum(_number(bank, "size_in_bytes") for bank in said if bank.get("heap_type") in _OF_FRAME_BUFFER)


def links(sys_root: str, number: int) -> Iterator[int]:
    """Yield the numbers of the GPUs that one is joined to by XGMI (Infinity Fabric)."""
    directory = f"{sys_root}/{TOPOLOGY}/nodes/{number}/io_links"
    for link in _numbers(directory):
        said = _properties(f"{directory}/{link}/properties")
        if said.get("type") == _LINK_OF_GPUS:
            yield _number(said, "node_to")


def generation(sys_root: str) -> str:
    """Return a number that changes with the topology, "" where there is none."""
    return (read_text(f"{sys_root}/{TOPOLOGY}/generation_id") or "").strip()


def _numbers(directory: str) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(directory) if name.isdecimal())
    except OSError:
        return []


def _properties(path: str) -> dict[str, str]:
    """Return the lines `NAME NUMBER` of a file; none of a node that a device cgroup keeps this process from."""
    return dict(words for line in (read_text(path) or "").split("\n") if len(words := line.split(" ", 1)) == 2)


def _number(said: Mapping[str, str], name: str) -> int:
    return number_in(said.get(name)) or 0


def _address(domain: int, location: int) -> str:
    """Return the GPU's PCI address. The lowest bits of a location are the number of a part, not a function."""
    return f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.0"
