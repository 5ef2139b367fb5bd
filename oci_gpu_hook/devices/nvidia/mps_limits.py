"""Which MPS daemon holds a container to its parts of GPUs, and which GPUs, drivers and requests it cannot serve. Pure.

NVIDIA, Multi-Process Service: memory limits came with CUDA 11.5 (driver 495), percentages of threads with Volta. A
client's own limits only lower those of the daemon.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import DriverError, InvalidInput
from oci_gpu_hook.devices.model import PIPE_OF_MPS, Limiter
from oci_gpu_hook.devices.nvidia.devices import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.nvidia.model import RequestInventory
    from oci_gpu_hook.devices.vendor import Request

_CONTROL: Final = "nvidia-cuda-mps-control"
_SERVER: Final = "nvidia-cuda-mps-server"
_FIRST_DRIVER: Final = 495
_FIRST_ARCHITECTURE: Final = (7, 0)
_PATH: Final = "/usr/bin:/bin:/usr/sbin:/sbin"
_MIB: Final = 1 << 20
_OR_NONE: Final = 'or set [sharing] enforce = "none", which reserves parts without enforcing them'


def limiter(request: Request, inventory: RequestInventory, devices: Sequence[Device]) -> Limiter:
    """Return the daemon. Raises InvalidInput, DriverError if the container cannot be held to its parts."""
    if inventory.platform:
        from oci_gpu_hook.devices.nvidia import platforms

        why = f"MPS, which would hold the container to it, does not run on {platforms.NAMES[inventory.platform]}"
        raise InvalidInput("a part of a GPU", why, f"ask for the whole GPU, {_OR_NONE}", "OGH1216")
    for device in devices:
        _check(device)
    branch = inventory.driver_version.partition(".")[0]
    if branch.isdecimal() and int(branch) < _FIRST_DRIVER:
        why = f"cannot limit containers by MPS, which takes driver {_FIRST_DRIVER} or later"
        raise DriverError(
            f"NVIDIA driver {inventory.driver_version}", why, f"install a newer one, {_OR_NONE}", "OGH1216"
        )
    if "compute" not in request.driver_capabilities:
        remedy = f"add compute to NVIDIA_DRIVER_CAPABILITIES, {_OR_NONE}"
        raise InvalidInput("a part of a GPU", "was asked for without the driver capability compute", remedy, "OGH1216")
    found = {os.path.basename(file.container_path): file.host_path for file in inventory.files}
    for name in (_CONTROL, _SERVER):
        if name not in found:
            remedy = f"install the driver's compute programs, {_OR_NONE}"
            raise DriverError(
                "a part of a GPU", f"this host has no {name} to limit a container to it", remedy, "OGH1216"
            )
    program = found[_CONTROL]
    libraries = [os.path.dirname(each.host_path) for each in inventory.libraries if each.name.startswith("libcuda.so.")]
    environment = {
        "PATH": f"{os.path.dirname(found[_SERVER])}:{_PATH}",
        "CUDA_VISIBLE_DEVICES": ",".join(device.uuid for device in devices),
    }
    if not program.startswith("/usr/"):  # a driver with its own root
        environment["LD_LIBRARY_PATH"] = ":".join(dict.fromkeys(libraries))
    return Limiter(
        program=program,
        environment=tuple(environment.items()),
        commands=_commands(request, len(devices)),
        pipe=PIPE_OF_MPS,
    )


def _commands(request: Request, count: int) -> tuple[str, ...]:
    """Return the commands; the daemon numbers its GPUs in the order of CUDA_VISIBLE_DEVICES."""
    memory, cores = request.memory_limit, request.cores
    limits = [f"set_default_device_pinned_mem_limit {n} {memory // _MIB}M" for n in range(count) if memory]
    return (*limits, *([f"set_default_active_thread_percentage {cores}"] if cores else []))


def _check(device: Device) -> None:
    gpu, mig = native(device)
    if mig or gpu.mig_enabled:
        remedy = f"ask for a MIG device of that size and no part of it, {_OR_NONE}"
        raise InvalidInput(
            f"a part of {device.label}", "MPS daemons are not started for GPUs in MIG mode", remedy, "OGH1216"
        )
    major, _, minor = gpu.architecture.partition(".")
    if major.isdecimal() and minor.isdecimal() and (int(major), int(minor)) < _FIRST_ARCHITECTURE:
        why = f"has compute capability {gpu.architecture}; MPS has limits from 7.0 on"
        raise InvalidInput(f"{device.label} ({gpu.name})", why, f"ask for a part of a newer GPU, {_OR_NONE}", "OGH1216")
