"""NVIDIA's `devices.vendor.Vendor`, where each of these functions is described."""

from __future__ import annotations

from oci_gpu_hook.base.errors import DriverError, HookError
from oci_gpu_hook.base.files import read_text
from oci_gpu_hook.devices.model import Terms, why_not
from oci_gpu_hook.devices.nvidia import contribution as made
from oci_gpu_hook.devices.nvidia import device_nodes, for_request, names
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import image_facts as looking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container as Collection
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.base.errors import InvalidInput
    from oci_gpu_hook.devices.model import Device, Limiter
    from oci_gpu_hook.devices.nvidia.model import RequestInventory
    from oci_gpu_hook.devices.use import DeviceUse
    from oci_gpu_hook.devices.vendor import Request

TERMS: Final = Terms(
    whole="GPU",
    part="MIG device",
    partitioned="in MIG mode, which are granted by MIG profile",
)
snapshot = for_request.get
is_fresh = for_request.is_fresh
resolve = names.resolve
image_facts = looking.look
contribution = made.make
device_edits = made.device_edits
views = made.views
of_nodes = device_nodes.devices_of


def devices(inventory: RequestInventory, config: Config) -> tuple[Device, ...]:
    """Return the GPUs, each followed by its MIG devices."""
    return of_nvidia.of(inventory.gpus, config.allocation_exclude, config.sharing_reserve)


def served(
    request: Request, inventory: RequestInventory, _devices: Sequence[Device]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return all names: `resolve` says what is to be said of those that stand for nothing.

    Raises InvalidInput for a choice that the platform cannot make.
    """
    if inventory.platform:
        from oci_gpu_hook.devices.nvidia import platforms

        platforms.check(request, inventory)
    return request.devices, ()


def of_minors(devices: Sequence[Device], minors: Collection[int]) -> tuple[Device, ...]:
    """Return the devices whose GPU has one of these minors, the number N of /dev/nvidiaN."""
    return tuple(device for device in devices if of_nvidia.gpu_of(device).minor in minors)


def not_yet(request: Request, inventory: RequestInventory, config: Config) -> str:
    """Describe what of the driver, its nodes and GPUs is missing and may still come."""
    from oci_gpu_hook.devices.nvidia import not_yet as missing

    return missing.of(request, inventory, config)


def lost(uuids: Iterable[str], config: Config) -> dict[str, str]:
    """Return the devices that the host no longer has, or that the driver has lost, and why."""
    from oci_gpu_hook.devices.nvidia import snapshot

    wanted = tuple(uuids)
    try:
        inventory = snapshot.load(config, detailed=any(map(names.of_mig, wanted)))
    except HookError:  # without a driver all are lost, which has its own error
        return {}
    found = {}
    known = of_nvidia.of(inventory.gpus)
    for uuid in wanted:
        device = names.find(uuid, known)
        if device is None:
            found[uuid] = "the host no longer has it"
        elif device.fault:
            found[uuid] = why_not(device.fault)
    return found


def no_profile(profile: str, devices: Sequence[Device]) -> InvalidInput:
    """Return the error for a MIG profile that no MIG device of this host has."""
    from oci_gpu_hook.devices.nvidia import refusals

    return refusals.no_profile(profile, devices)


def running_driver(config: Config) -> str:
    """Return the version in /proc/driver/nvidia, "" if no driver is loaded."""
    from oci_gpu_hook.devices.nvidia import procfs

    text = read_text(f"{config.proc_root}/driver/nvidia/version")
    try:
        return procfs.driver_version(text) if text is not None else ""
    except DriverError:
        return ""


def made_node(path: str, config: Config) -> tuple[int, int] | None:
    """Return the numbers of an IMEX channel, whose minor is the channel's number; None for other paths."""
    from oci_gpu_hook.devices.nvidia import procfs

    channel = path.removeprefix(device_nodes.IMEX_CHANNEL)
    if channel == path or not channel.isdecimal():
        return None
    major = procfs.device_major(read_text(f"{config.proc_root}/devices") or "", device_nodes.IMEX_DRIVER)
    return (major, int(channel)) if major else None


def used(config: Config) -> dict[str, DeviceUse]:
    """Return what GPUs and MIG devices are used for now, as NVML says. Raises DriverError."""
    from oci_gpu_hook.base import limits
    from oci_gpu_hook.devices.nvidia import snapshot, usage

    with usage.Meter(snapshot.load(config, detailed=True)) as meter:
        return meter.read(limits.NVML_SECONDS)


def limiter(request: Request, inventory: RequestInventory, devices: Sequence[Device]) -> Limiter:
    """Return the MPS daemon for these GPUs. Raises InvalidInput, DriverError."""
    from oci_gpu_hook.devices.nvidia import mps_limits

    return mps_limits.limiter(request, inventory, devices)


def to_json(device: Device) -> dict[str, object]:
    """Return what `oci-gpu plan --json` shows of a device."""
    gpu, mig = of_nvidia.native(device)
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "minor": gpu.minor,
        "busId": gpu.bus_id,
        "mig": mig and {"index": mig.index, "uuid": mig.uuid, "profile": mig.profile},
    }
