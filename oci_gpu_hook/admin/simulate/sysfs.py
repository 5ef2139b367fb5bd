"""The part of /sys that tells where GPUs sit: PCI devices, their DRM nodes, the module's version.

As in the real one, entries of bus/ and class/ are links into devices/, whose nesting is the PCIe topology: a root port,
the switch's upstream port, one downstream port for each GPU. Source: Documentation/ABI/testing/sysfs-bus-pci.
"""

from __future__ import annotations

import struct

from oci_gpu_hook.admin.simulate.gpus import SLOTS
from oci_gpu_hook.admin.simulate.nodes import DRM_MAJOR

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
    for name, value in attributes.items():
        tree.write(f"sys/{path}/{name}", f"{value}\n", 0o444)
    tree.write(f"sys/{path}/config", config_space(gpu), 0o644)
    tree.write(f"sys/{path}/power/runtime_status", "active\n", 0o444)
    up = "../" * (path.count("/") + 1)
    tree.link(f"sys/{path}/driver", f"{up}bus/pci/drivers/nvidia")
    tree.link(f"sys/{path}/subsystem", f"{up}bus/pci")
    tree.link(f"sys/bus/pci/devices/{gpu.bus_id}", f"../../../{path}")
    tree.link(f"sys/bus/pci/drivers/nvidia/{gpu.bus_id}", f"../../../../{path}")


def config_space(gpu: SimulatedGpu) -> bytes:
    """Return the header of the GPU's PCI configuration space: all ones when it has fallen off the bus."""
    if gpu.lost:
        return b"\xff" * 64
    product = gpu.product
    header = struct.pack("<HHHHI", 0x10DE, product.device_id, 0x0406, 0x0010, product.pci_class << 8 | 0xA1)
    return header.ljust(64, b"\0")


def _drm_device(tree: Tree, gpu: SimulatedGpu, numbers: Numbers) -> None:
    path = device_path(gpu)
    minors = (numbers.first_card + gpu.index, numbers.first_render + gpu.index)
    for name, minor in zip(numbers.drm(gpu.index), minors, strict=True):
        number = f"{DRM_MAJOR}:{minor}"
        tree.write(f"sys/{path}/drm/{name}/dev", f"{number}\n", 0o444)
        tree.write(f"sys/{path}/drm/{name}/uevent", f"MAJOR={DRM_MAJOR}\nMINOR={minor}\nDEVNAME=dri/{name}\n", 0o644)
        tree.link(f"sys/{path}/drm/{name}/device", f"../../../{gpu.bus_id}")
        tree.link(f"sys/class/drm/{name}", f"../../{path}/drm/{name}")
        tree.link(f"sys/dev/char/{number}", f"../../{path}/drm/{name}")
