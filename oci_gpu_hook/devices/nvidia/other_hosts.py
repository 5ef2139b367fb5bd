"""Describes a host without NVIDIA's driver, and what serves it. Imported only for that error message.

WSL 2 and Tegra are served (`platforms`). Source: Linux drivers/gpu/drm/amd/amdkfd (/dev/kfd).
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import DriverError, quoted
from oci_gpu_hook.devices import pci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.base.config.model import Config

_WHAT: Final = "no NVIDIA driver is loaded"
_VENDORS: Final = {
    "0x1002": "AMD",
    "0x8086": "Intel",
    "0x1a03": "ASPEED",
    "0x1234": "QEMU",
    "0x15ad": "VMware",
    "0x1da3": "Habana",
}
_ASK_FOR_INTELS: Final = "ask for Intel's by OCI_GPU_KIND=intel.com/gpu and a count"
_LOAD: Final = "load it (modprobe nvidia) or install the driver; nvidia-smi on the host must work first"


def no_driver(config: Config) -> DriverError:
    """Return the error for a host whose kernel has no NVIDIA driver; it depends on what the host has instead."""
    why, remedy = _found(config)
    return DriverError(_WHAT, why, remedy, "OGH1401")


def _found(config: Config) -> tuple[str, str]:
    dev = f"{config.dev_root.rstrip('/')}/dev"
    gpus = dict(pci.gpus(config.sys_root))
    nvidias = [address for address, vendor in gpus.items() if vendor == pci.NVIDIA]
    if os.path.exists(f"{dev}/kfd"):
        if nvidias:
            why = f"the host has AMD GPUs (/dev/kfd), and no driver for its NVIDIA GPU at {nvidias[0]}"
        else:
            why = "the host's GPUs are AMD's (/dev/kfd)"
        remedy = "ask for AMD's by AMD_VISIBLE_DEVICES, or by OCI_GPU_KIND=amd.com/gpu and a count"
        return why, f"{remedy}; for NVIDIA's install its driver" if nvidias else remedy
    version = quoted(f"{config.proc_root}/driver/nvidia/version")
    if nvidias:
        return _undriven(config, nvidias[0], version)
    if pci.is_seen(config.sys_root):
        vendors = sorted({_VENDORS.get(vendor, f"PCI vendor {quoted(vendor)}") for vendor in gpus.values()})
        only = f"NVIDIA GPU, only GPUs of {', '.join(vendors)}" if vendors else "GPU"
        why = f"{version} does not exist, and the PCI bus has no {only}"
        where = "use a host with NVIDIA GPUs; lspci -nn shows what this one has"
        return why, f"{_ASK_FOR_INTELS}, or {where}" if pci.INTEL in gpus.values() else where
    return f"{version} does not exist", _LOAD


def _undriven(config: Config, address: str, version: str) -> tuple[str, str]:
    """Say why an existing GPU has no driver."""
    if os.path.isdir(f"{config.sys_root}/module/nvidia"):
        why = f"the module nvidia is loaded, but {version} does not exist"
        remedy = "see dmesg for why the driver took no GPU; set proc-root in config.toml where procfs is elsewhere"
        return why, remedy
    driver = pci.driver(config.sys_root, address)
    if driver == "nouveau":
        why = f"the GPU at {address} is driven by nouveau, which cannot run CUDA"
        return why, "install NVIDIA's driver, which disables nouveau, and reboot; nvidia-smi must work first"
    if driver == "vfio-pci":
        why = f"the GPU at {address} is bound to vfio-pci, which reserves it for virtual machines"
        return why, "start the container in the virtual machine that has it, or bind the GPU to nvidia"
    return f"{version} does not exist", _LOAD
