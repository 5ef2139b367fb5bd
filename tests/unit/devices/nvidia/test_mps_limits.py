"""The MPS daemon that holds a container to its parts, and where there can be none."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base.errors import DriverError, HookError, InvalidInput
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import mps_limits
from oci_gpu_hook.devices.nvidia.model import DriverFile, Gpu, Library, RequestInventory
from oci_gpu_hook.request.model import Request
from tests.unit.allocation.gpus import mig_gpu

PROGRAMS = ("nvidia-cuda-mps-control", "nvidia-cuda-mps-server")
GPUS = tuple(Gpu(index=i, uuid=f"GPU-{i}", minor=i, bus_id=f"0000:0{i}:00.0", architecture="9.0") for i in range(2))


def limiter(gpus=GPUS, driver="580.1", programs=PROGRAMS, root="", capabilities=("compute",), **wish):
    files = [
        DriverFile(host_path=f"{root}/usr/bin/{name}", container_path=f"/usr/bin/{name}", capabilities=("compute",))
        for name in programs
    ]
    cuda = Library(
        host_path=f"{root}/usr/lib64/libcuda.so.{driver}", name=f"libcuda.so.{driver}", soname="libcuda.so.1",
        links=(), capabilities=("compute",),
    )  # fmt: skip
    inventory = RequestInventory(
        wanted=frozenset(capabilities), driver_version=driver, gpus=gpus, libraries=(cuda,), files=tuple(files),
        nodes=(),
    )  # fmt: skip
    request = Request(driver_capabilities=capabilities, source="environment", **wish)
    return mps_limits.limiter(request, inventory, of_nvidia.everything(of_nvidia.of(gpus)))


def test_each_gpu_has_the_limit_in_the_order_of_the_daemon():
    made = limiter(memory_limit=8 << 30, cores=25)
    assert made.commands == (
        "set_default_device_pinned_mem_limit 0 8192M",
        "set_default_device_pinned_mem_limit 1 8192M",
        "set_default_active_thread_percentage 25",
    )
    assert dict(made.environment) == {
        "PATH": "/usr/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "CUDA_VISIBLE_DEVICES": "GPU-0,GPU-1",
    }
    assert (made.program, made.pipe) == ("/usr/bin/nvidia-cuda-mps-control", "/tmp/nvidia-mps")
    assert limiter(memory_limit=(8 << 30) + 1).commands[0].endswith(" 8192M"), "never more than was reserved"
    assert limiter(cores=25).commands == ("set_default_active_thread_percentage 25",)


def test_a_driver_with_a_root_of_its_own_brings_its_libraries():
    assert dict(limiter(root="/run/nvidia/driver", cores=1).environment)["LD_LIBRARY_PATH"] == (
        "/run/nvidia/driver/usr/lib64"
    )


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        (
            {"driver": "470.1"},
            DriverError,
            "driver 470.1: cannot limit containers by MPS, which takes driver 495 or later; install a newer",
        ),
        ({"programs": PROGRAMS[:1]}, DriverError, "this host has no nvidia-cuda-mps-server"),
        ({"capabilities": ("utility",)}, InvalidInput, "without the driver capability compute; add compute to"),
        ({"gpus": (GPUS[0].replace(architecture="6.1"),)}, InvalidInput, "has compute capability 6.1; MPS has limits"),
        ({"gpus": (mig_gpu(0, "1g.10gb"),)}, InvalidInput, "not started for GPUs in MIG mode; ask for a MIG device"),
        ({"gpus": (mig_gpu(0),)}, InvalidInput, "not started for GPUs in MIG mode"),
    ],
)
def test_where_there_can_be_none_the_refusal_says_what_to_do(options, kind, said):
    with pytest.raises(HookError) as refusal:
        limiter(**options, cores=25)
    assert isinstance(refusal.value, kind)
    assert said in str(refusal.value)
    assert '[sharing] enforce = "none"' in str(refusal.value)
