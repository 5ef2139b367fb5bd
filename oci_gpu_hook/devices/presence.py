"""Which vendors' GPUs the host has, for requests that leave the vendor open. It looks at a few paths of sysfs.

A GPU that is part of a processor draws the screen of a machine, and is not what a count means where a card is, too.
"""

from __future__ import annotations

import os

from oci_gpu_hook.devices import vendors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container as Collection
    from collections.abc import Mapping
    from typing import Final

    from oci_gpu_hook.base.config.model import Config

# What sysfs has where a vendor's driver is loaded: without it, the vendor's room need not be read.
_OF_DRIVERS: Final[Mapping[str, tuple[str, ...]]] = {
    "amd.com/gpu": ("class/kfd",),
    "intel.com/gpu": ("bus/pci/drivers/i915", "bus/pci/drivers/xe"),
}
# Of WSL 2, and of a Tegra's chip: GPUs of NVIDIA's that have another driver than cards (devices.nvidia.platforms).
_OTHER_NODES: Final = ("/dev/dxg", "/dev/nvmap", "/dev/nvgpu")


def of_host(config: Config) -> tuple[str, ...]:
    """Return the kinds of GPUs that the host has, integrated ones included."""
    nvidia = vendors.KINDS if _has_nvidias(config) else ()
    return (*nvidia, *(kind for kind in vendors.SEEN if _standing(kind, config)))


def meant_by_count(config: Config) -> tuple[str, ...]:
    """Return the kinds of GPUs that a count without a kind may mean: integrated ones where there are no others."""
    found = {kind: _standing(kind, config) for kind in vendors.SEEN}
    cards = tuple(kind for kind, standing in found.items() if standing == vendors.CARD)
    if _has_nvidias(config):
        return (*vendors.KINDS, *cards)
    return cards or tuple(kind for kind, standing in found.items() if standing)


def with_driver(config: Config) -> tuple[str, ...]:
    """Return the kinds whose driver is loaded, whether it has a GPU or not."""
    nvidia = vendors.KINDS if _has_nvidias_driver(config) else ()
    return (*nvidia, *(kind for kind in vendors.SEEN if _has_driver(kind, config)))


def has_nvidias_node(config: Config, numbers: Collection[tuple[int, int]], host_paths: Collection[str]) -> bool:
    """Tell whether nodes with these numbers, or these nodes of the host, may be an NVIDIA GPU's.

    A container without a card's /dev/nvidiaN has none of it; which nodes the other platforms have, discovery knows.
    """
    dev = f"{config.dev_root.rstrip('/')}/dev"
    if _has_other_nodes(config):
        return True
    try:
        names = os.listdir(dev)
    except OSError:
        return True
    paths = [f"{dev}/{name}" for name in names if name.startswith("nvidia") and name[6:].isdecimal()]
    return any(path in host_paths or _number(path) in numbers for path in paths)


def _number(path: str) -> tuple[int, int]:
    try:
        number = os.stat(path).st_rdev
    except OSError:
        return -1, -1
    return os.major(number), os.minor(number)


def _has_driver(kind: str, config: Config) -> bool:
    return True in [os.path.exists(f"{config.sys_root}/{path}") for path in _OF_DRIVERS[kind]]


def _has_nvidias_driver(config: Config) -> bool:
    return os.path.exists(f"{config.proc_root}/driver/nvidia/version") or _has_other_nodes(config)


def _has_other_nodes(config: Config) -> bool:
    return True in [os.path.exists(f"{config.dev_root.rstrip('/')}{node}") for node in _OTHER_NODES]


def _standing(kind: str, config: Config) -> str:
    return vendors.standing(kind, config) if _has_driver(kind, config) else ""


def _has_nvidias(config: Config) -> bool:
    """Tell whether NVIDIA's driver is loaded, or has something to be loaded for."""
    if _has_nvidias_driver(config):
        return True
    from oci_gpu_hook.devices import pci

    return any(vendor == pci.NVIDIA for _address, vendor in pci.gpus(config.sys_root))
