"""For tests of who gets which device: GPUs, MIG devices, links between them, requests and leases."""

from __future__ import annotations

from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.allocation.model import Lease, LeasedDevice
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, MigDevice
from oci_gpu_hook.request.model import Request

GIB = 1 << 30
HOLDER = Holder(pid=1, start_time=1, boot_id="b", pid_namespace=1)


def uuid(index):
    return f"GPU-{index:08x}-aaaa-bbbb-cccc-0123456789ab"


def mig_uuid(gpu, index):
    return f"MIG-{gpu:08x}-{index:04x}-5e55-a11e-0123456789ab"


def gpu(index, **facts):
    defaults = {"uuid": uuid(index), "minor": index, "bus_id": f"00000000:{index + 6:02x}:00.0", "memory": 80 * GIB}
    return Gpu(index=index, **(defaults | facts))


def host(*gpus):
    return of_nvidia.of(gpus)


def inventory(*gpus, detailed=True):
    return Inventory(driver_version="580.1", gpus=gpus, libraries=(), files=(), nodes=(), detailed=detailed)


def plain(size, **facts):
    return host(*(gpu(index, **facts) for index in range(size)))


def linked(size, links, **facts):
    """Build a host of `size` GPUs; links maps (one, other) to the number of NVLinks."""
    both = dict(links) | {(b, a): n for (a, b), n in links.items()}
    return host(
        *(gpu(i, links=tuple((b, n) for (a, b), n in sorted(both.items()) if a == i), **facts) for i in range(size))
    )


def mig_gpu(index, *profiles):
    devices = tuple(
        MigDevice(
            index=number,
            uuid=mig_uuid(index, number),
            gpu_instance=number + 7,
            compute_instance=0,
            profile=profile,
            memory=int(profile.split(".")[1].removesuffix("gb")) * GIB,
            gpu_instance_minor=number,
            compute_instance_minor=number + 100,
        )
        for number, profile in enumerate(profiles)
    )
    return gpu(index, mig_enabled=True, mig_devices=devices)


def request(*devices, **fields):
    return Request(devices=devices, driver_capabilities=("compute",), source="environment", **fields)


def lease(container, *uuids, exclusive=False):
    devices = tuple(
        LeasedDevice(whole=one) if one.startswith("GPU") else LeasedDevice(whole="", part=one) for one in uuids
    )
    return Lease(container=container, devices=devices, exclusive=exclusive, holder=HOLDER, since="")


def indices(granted):
    return [device.index for device in granted]
