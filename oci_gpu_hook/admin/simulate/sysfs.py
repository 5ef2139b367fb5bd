"""The part of /sys that shows where GPUs are: PCI devices, their DRM nodes, the module's version.

The nesting below devices/ is a root port, the switch's upstream port, one downstream port for each GPU.
"""

from __future__ import annotations

import struct

from oci_gpu_hook.admin.simulate import pci_devices
from oci_gpu_hook.admin.simulate.gpus import SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.admin.simulate.gpus import SimulatedGpu
    from oci_gpu_hook.admin.simulate.nodes import Numbers
    from oci_gpu_hook.admin.simulate.tree import Tree


def make_sysfs(tree: Tree, gpus: Sequence[SimulatedGpu], *, version: str, numbers: Numbers, firmware: str) -> None:
    """Write the tree below sys/. version: of the kernel modules; firmware: firmware_class.path, "" for the default."""
    for directory in ("bus/pci/devices", "bus/pci/drivers/nvidia", "class/drm", "dev/char"):
        tree.directory(f"sys/{directory}")
    tree.write("sys/module/nvidia/version", f"{version}\n", 0o444)
    tree.write("sys/module/firmware_class/parameters/path", f"{firmware}\n", 0o644)
    for gpu in gpus:
        _pci_device(tree, gpu)
        _drm_device(tree, gpu, numbers)


def device_path(gpu: SimulatedGpu) -> str:
    """Return the GPU's directory below sys/."""
    root = SLOTS[gpu.slot][1]
    ports = ((root, 1), (root + 1, 0), (root + 2, 2 * (gpu.slot & 1)))  # root port, upstream, downstream
    chain = [f"{gpu.domain:04x}:{bus:02x}:{device:02x}.0" for bus, device in ports]
    return "/".join([f"devices/pci{gpu.domain:04x}:{root:02x}", *chain, gpu.bus_id])


def _pci_device(tree: Tree, gpu: SimulatedGpu) -> None:
    path = device_path(gpu)
    product = gpu.product
    attributes = {
        "class": f"0x{product.pci_class:06x}",
        "vendor": "0x10de",
        "device": f"0x{product.device_id:04x}",
        "subsystem_vendor": f"0x{product.subsystem_id & 0xFFFF:04x}",
        "subsystem_device": f"0x{product.subsystem_id >> 16:04x}",
        "numa_node": str(gpu.numa_node),
        "local_cpulist": f"{64 * gpu.numa_node}-{64 * gpu.numa_node + 63}",
        "current_link_width": "16",
        "enable": "1",
    }
    pci_devices.pci_device(tree, path, attributes, "nvidia")
    tree.write(f"sys/{path}/config", config_space(gpu), 0o644)
    tree.write(f"sys/{path}/power/runtime_status", "active\n", 0o444)


def config_space(gpu: SimulatedGpu) -> bytes:
    """Return the header of the GPU's PCI configuration space: all ones when it has fallen off the bus."""
    if gpu.lost:
        return b"\xff" * 64
    product = gpu.product
    header = struct.pack("<HHHHI", 0x10DE, product.device_id, 0x0406, 0x0010, product.pci_class << 8 | 0xA1)
    return header.ljust(64, b"\0")


def _drm_device(tree: Tree, gpu: SimulatedGpu, numbers: Numbers) -> None:
    minors = (numbers.first_card + gpu.index, numbers.first_render + gpu.index)
    pci_devices.drm_nodes(tree, device_path(gpu), dict(zip(numbers.drm(gpu.index), minors, strict=True)))
