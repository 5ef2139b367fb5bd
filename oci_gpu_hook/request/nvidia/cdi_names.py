"""The meaning of CDI names whose vendor is NVIDIA.

Classes: those that nvidia-ctk and NVIDIA's Kubernetes device plugin write (gpu, mig, imex-channel, gds, mofed, gdrcopy,
nvswitch) under nvidia.com and the vendors below it (runtime.nvidia.com, k8s.device-plugin.nvidia.com,
management.nvidia.com). This project adds the class mps, NVIDIA's Multi-Process Service.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.request.qualified_name import QualifiedName

FEATURE_CLASSES: Final = ("gds", "mofed", "nvswitch", "gdrcopy", "mps")


def device(name: QualifiedName) -> str:
    """Return the device's name in NVIDIA_VISIBLE_DEVICES, "" if it is not a GPU or MIG device.

    nvidia-ctk's strategy "type-index" calls GPU 0 `gpu0` and its first MIG device `mig0:0`.
    """
    if name.device_class not in ("gpu", "mig"):
        return ""
    for prefix in ("gpu", "mig"):
        if name.name.removeprefix(prefix)[:1].isdecimal():
            return name.name.removeprefix(prefix)
    return name.name


def imex_channel(name: QualifiedName) -> str:
    """Return the IMEX channel that the name means, or ""."""
    return name.name if name.device_class == "imex-channel" else ""


def feature(name: QualifiedName) -> str:
    """Return the feature that the name means ("gds", …), or ""."""
    return name.device_class if name.device_class in FEATURE_CLASSES else ""
