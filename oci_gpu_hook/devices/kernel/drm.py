"""The nodes of GPUs below /dev/dri, as sysfs names them.

Source: Linux drivers/gpu/drm/drm_sysfs.c and drm_drv.c: a device has one primary node, cardN, and may have one render
node, renderDN; `device/drm/` below either lists both.
"""

from __future__ import annotations

import os

from oci_gpu_hook.devices.edits import DeviceNode, Symlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_gpu_hook.base.config.model import Config


def of_device(device: str) -> tuple[str, ...]:
    """Return the names of the DRM nodes of a device by its directory in sysfs, the card first."""
    try:
        names = os.listdir(f"{device}/drm")
    except OSError:
        return ()
    return tuple(sorted(name for name in names if is_node(name)))


def is_node(name: str) -> bool:
    """Tell whether a name below class/drm is that of a node: connectors, such as card0-DP-1, have none."""
    return name.removeprefix("card").isdecimal() or name.removeprefix("renderD").isdecimal()


def nodes(names: Iterable[str], config: Config) -> tuple[DeviceNode, ...]:
    """Return the nodes of these names for a container, whose numbers are those of the host's nodes."""
    return tuple(node(f"dri/{name}", config) for name in names)


def links(address: str, names: Iterable[str]) -> tuple[Symlink, ...]:
    """Return the links by which udev names the nodes of the PCI device at an address."""
    by_path = f"/dev/dri/by-path/pci-{address}"
    return tuple(
        Symlink(path=f"{by_path}-{name.rstrip('0123456789').removesuffix('D')}", target=f"../{name}", optional=True)
        for name in names
    )


def node(name: str, config: Config) -> DeviceNode:
    """Return a node below /dev for a container, for reading and writing; what is unsaid comes from the host's node."""
    return DeviceNode(
        path=f"/dev/{name}", host_path=f"{config.dev_root.rstrip('/')}/dev/{name}", type="", permissions="rw"
    )
