"""The GPUs: whether the driver has all GPUs of the machine, and keeps them initialised."""

from __future__ import annotations

from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, OK, WARNING, Finding, Host
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.devices import pci, vendors
from oci_gpu_hook.devices.model import is_sick
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import procfs, refusals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.devices.nvidia.model import Gpu

_NAME: Final = "gpus"


def check(host: Host) -> Iterator[Finding]:
    """Check the GPUs in the inventory, and find those on the bus that are not in it."""
    inventory = host.inventory
    if inventory is None:
        return
    working = tuple(gpu for gpu in inventory.gpus if not gpu.fault)
    count = len(working)
    if count:
        yield Finding(check=_NAME, severity=OK, what=f"{count} GPU{'s' * (count != 1)}: {_products(working)}")
    elif not inventory.gpus:
        why = "requests for a GPU fail"
        remedy = "see dmesg for why the driver took none; look for GPUs with lspci -d 10de:"
        yield Finding(check=_NAME, severity=WARNING, what="the driver has no GPU", why=why, remedy=remedy)
    for gpu in inventory.gpus:
        if gpu.fault:
            name = refusals.named(gpu)
            what = f"{name}: {gpu.fault}" if is_sick(gpu.fault) else f"the driver has lost {name}: {gpu.fault}"
            why = "containers that name it fail; `all` and counts pass it over"
            yield Finding(check=_NAME, severity=ERROR, what=what, why=why, remedy=refusals.remedy(gpu.fault))
    known = {gpu.bus_id for gpu in inventory.gpus}
    on_the_bus = {procfs.bus_id(address) for address, vendor in pci.gpus(host.config.sys_root) if vendor == pci.NVIDIA}
    for address in sorted(on_the_bus - known):
        what = f"the GPU at {address} is not bound to the NVIDIA driver"
        why = "no container can be given it"
        remedy = "it may be bound to vfio-pci or nouveau, excluded, or broken: see lspci -k and dmesg"
        yield Finding(check=_NAME, severity=NOTE, what=what, why=why, remedy=remedy)
    yield from _excluded(host.config.allocation_exclude, inventory.gpus)
    asleep = [str(gpu.index) for gpu in working if gpu.persistence_mode is False]
    if asleep:
        what = f"persistence mode is off (GPU {', '.join(asleep)})"
        why = "the driver initializes such a GPU for seconds whenever a first process opens it"
        remedy = "systemctl enable --now nvidia-persistenced"
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=remedy)
    for gpu in working:
        if gpu.mig_enabled and not gpu.mig_devices:
            what = f"GPU {gpu.index} is in MIG mode without MIG devices"
            why = "CUDA sees nothing on it, and requests by count pass it over"
            remedy = "make MIG devices (nvidia-smi mig -cgi … -C) or leave MIG mode"
            yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=remedy)


def _excluded(exclude: Sequence[str], gpus: Sequence[Gpu]) -> Iterator[Finding]:
    for name in exclude:
        if vendors.kind_of(name) not in vendors.KINDS:
            continue  # a device of another vendor
        found = [f"GPU {gpu.index}" for gpu in gpus if of_nvidia.matches(name, gpu)]
        if found:
            what = f"[allocation] exclude keeps {', '.join(found)} out of `all` and of counts"
            yield Finding(check=_NAME, severity=OK, what=what)
        else:
            what = f"[allocation] exclude: {quoted(name)} is not one of this host's GPUs"
            why = "it excludes nothing"
            remedy = "write an index, a UUID or a product as `oci-gpu info` shows it"
            yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=remedy)


def _products(gpus: tuple[Gpu, ...]) -> str:
    names = [gpu.name or "unknown product" for gpu in gpus]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
