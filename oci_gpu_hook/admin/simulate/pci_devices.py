"""Devices on a simulated PCI bus, and their DRM nodes, in sysfs's form.

As in the real one, entries of bus/ and class/ are links into devices/, whose nesting is the PCIe topology. Source:
Documentation/ABI/testing/sysfs-bus-pci, drivers/gpu/drm/drm_sysfs.c.
"""

from __future__ import annotations

from oci_gpu_hook.admin.simulate.nodes import DRM_MAJOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oci_gpu_hook.admin.simulate.tree import Tree


def pci_device(tree: Tree, path: str, attributes: Mapping[str, str], driver: str) -> None:
    """Write the PCI device whose directory below sys/ is `path`, as one that `driver` has."""
    address = path.rpartition("/")[2]
    for name, value in attributes.items():
        tree.write(f"sys/{path}/{name}", f"{value}\n", 0o444)
    up = "../" * (path.count("/") + 1)
    tree.link(f"sys/{path}/driver", f"{up}bus/pci/drivers/{driver}")
    tree.link(f"sys/{path}/subsystem", f"{up}bus/pci")
    tree.link(f"sys/bus/pci/devices/{address}", f"../../../{path}")
    tree.link(f"sys/bus/pci/drivers/{driver}/{address}", f"../../../../{path}")


def drm_nodes(tree: Tree, path: str, minors: Mapping[str, int]) -> None:
    """Write the DRM nodes, by name, of the device whose directory below sys/ is `path`."""
    device = path.rpartition("/")[2]
    for name, minor in minors.items():
        number = f"{DRM_MAJOR}:{minor}"
        tree.write(f"sys/{path}/drm/{name}/dev", f"{number}\n", 0o444)
        tree.write(f"sys/{path}/drm/{name}/uevent", f"MAJOR={DRM_MAJOR}\nMINOR={minor}\nDEVNAME=dri/{name}\n", 0o644)
        tree.link(f"sys/{path}/drm/{name}/device", f"../../../{device}")
        tree.link(f"sys/class/drm/{name}", f"../../{path}/drm/{name}")
        tree.link(f"sys/dev/char/{number}", f"../../{path}/drm/{name}")
