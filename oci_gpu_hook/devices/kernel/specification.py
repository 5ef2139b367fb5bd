"""Writes the devices that the kernel describes as a CDI specification. Pure.

Nodes are given by path alone, so that engines take the numbers that the host's nodes have when a container starts.
"""

from __future__ import annotations

from oci_gpu_hook.devices import compose
from oci_gpu_hook.devices.cdi.devices import native
from oci_gpu_hook.devices.cdi.devices import of as devices_of
from oci_gpu_hook.devices.cdi.names import ALL
from oci_gpu_hook.devices.cdi.spec_files import versions
from oci_gpu_hook.devices.cdi.spec_files.model import SpecDevice, Specification
from oci_gpu_hook.devices.edits import ContainerEdits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oci_gpu_hook.devices.cdi.model import Inventory


def of(inventory: Inventory, exclude: Sequence[str], wanted: Callable[[str], bool]) -> Specification:
    """Return the specification. exclude: qualified names that `all` passes over. wanted: which names are written."""
    everyone = inventory.files[0][1]
    devices = [
        SpecDevice(name=described.name, annotations={}, edits=described.edits)
        for described in inventory.devices
        if wanted(described.name)
    ]
    single = [device for device in devices_of(inventory, exclude) if not (native(device).covers or device.excluded)]
    together = compose.merged(*(native(device).described[0].edits for device in single))
    if single:
        devices.append(SpecDevice(name=ALL, annotations={}, edits=together))
    made = Specification(cdi_version="", kind=inventory.kind, annotations={}, devices=tuple(devices), edits=everyone)
    return made.replace(cdi_version=versions.required(made)[0])


def nothing(kind: str) -> Specification:
    """Return the specification of a kind of which the host has no device."""
    return Specification(cdi_version="0.5.0", kind=kind, annotations={}, devices=(), edits=ContainerEdits())
