"""What a container that waits waits for: what its host has not and may still get, and nothing else."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.devices.nvidia import not_yet
from oci_gpu_hook.devices.nvidia.model import DeviceNode, Gpu, RequestInventory
from oci_gpu_hook.request.model import Request

BUS = ("0000:01:00.0", "0000:02:00.0", "0000:03:00.0")
ALL_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia2")


def gpu(index, **facts):
    return Gpu(index=index, uuid=f"GPU-{index}", minor=index, bus_id=f"0000{BUS[index]}", memory=80, **facts)


FIRST = (gpu(0),)


@pytest.fixture
def config(tmp_path):
    """A host with three GPUs on its bus: the second of vfio-pci, the third of no driver; and what is no GPU."""
    for address, kind, driver in (
        (BUS[0], "0x030200", "nvidia"),
        (BUS[1], "0x030200", "vfio-pci"),
        (BUS[2], "0x030000", ""),
        ("0000:03:00.1", "0x040300", ""),
    ):
        device = tmp_path / "bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x10de\n")
        (device / "class").write_text(f"{kind}\n")
        if driver:
            os.symlink(f"/sys/bus/pci/drivers/{driver}", device / "driver")
    return Config(sys_root=str(tmp_path))


def lacks(config, *devices, gpus=FIRST, nodes=ALL_NODES, wanted=("compute",), **wish):
    there = tuple(DeviceNode(path=path, host_path=path, major=195, minor=0, mode=0o666, uid=0, gid=0) for path in nodes)
    inventory = RequestInventory(
        wanted=frozenset(wanted), driver_version="580.1", gpus=gpus, libraries=(), files=(), links=(), nodes=there
    )
    return not_yet.of(Request(devices=devices, driver_capabilities=(), source="environment", **wish), inventory, config)


@pytest.mark.parametrize(
    ("devices", "count", "missing"),
    [
        (("0",), None, ""),
        (("all",), None, ""),
        ((), 1, ""),
        ((), 2, "1 more of 2 devices"),  # of which one is on the bus and waits for its driver
        ((), 3, ""),  # never: one is of another driver
        (("1",), None, "unknown device '1'"),
        (("2",), None, ""),
        (("GPU-7",), None, "unknown device 'GPU-7'"),
        (("0000:03:00.0",), None, "unknown device '0000:03:00.0'"),
        (("MIG-7",), None, "unknown device 'MIG-7'"),
        (("0", "7"), None, ""),
        ((), None, ""),  # `none`
    ],
)
def test_gpus_are_waited_for_that_can_come(config, devices, count, missing):
    assert lacks(config, *devices, count=count) == missing


def test_all_is_waited_for_where_there_is_none_yet(config):
    assert lacks(config, "all", gpus=()) == "a GPU"
    assert lacks(config, count=1, gpus=()) == "1 more of 1 devices"


def test_where_nobody_tells_what_is_on_the_bus_anything_may_come(config):
    unknown = config.replace(sys_root="/nowhere")
    assert lacks(unknown, count=9) == "8 more of 9 devices"
    assert lacks(unknown, "9") == "unknown device '9'"


@pytest.mark.parametrize(
    ("gone", "wish", "missing"),
    [
        ("/dev/nvidiactl", {}, "/dev/nvidiactl"),
        ("/dev/nvidia0", {}, "/dev/nvidia0"),
        ("/dev/nvidia0", {"count": 1}, "/dev/nvidia0"),
        ("/dev/nvidia1", {}, ""),
        ("/dev/nvidia-uvm", {}, "/dev/nvidia-uvm"),
        ("/dev/nvidia-uvm", {"wanted": ("utility",)}, ""),
    ],
)
def test_nodes_are_waited_for_without_which_it_would_not_work(config, gone, wish, missing):
    devices = () if "count" in wish else ("0",)
    assert lacks(config, *devices, nodes=[path for path in ALL_NODES if path != gone], **wish) == missing


def test_what_is_kept_out_of_counts_is_no_more_to_come(config):
    both = (gpu(0), gpu(2))
    assert lacks(config.replace(allocation_exclude=("0",)), count=2, gpus=both) == ""
    assert lacks(config.replace(allocation_exclude=("0",)), count=1, gpus=both) == ""


def test_a_gpu_that_is_lost_is_not_waited_for(config):
    """It takes a person, and no time brings it."""
    both = (gpu(0), gpu(2, fault="has fallen off the bus"))
    for devices in (("2",), ("GPU-2",), ("0", "2")):
        assert lacks(config, *devices, gpus=both) == ""
    assert lacks(config, count=2, gpus=both) == ""
    assert lacks(config, "all", gpus=both[1:]) == ""


def test_a_gpu_that_cannot_be_started_for_want_of_its_node_is_waited_for(config):
    """NVML does not count it until then, and so it passes for lost."""
    both = (gpu(0), gpu(2, fault="NVML does not count it"))
    nodes = ALL_NODES[:3]
    for devices in (("2",), ("GPU-2",), ("0", "2"), ("all",)):
        assert lacks(config, *devices, gpus=both, nodes=nodes) == "/dev/nvidia2"
    assert lacks(config, count=2, gpus=both, nodes=nodes) == "/dev/nvidia2"
    unknown = (gpu(0), gpu(2, fault="NVML does not count it").replace(memory=0))
    assert lacks(config, count=2, memory=80, gpus=unknown, nodes=nodes) == "/dev/nvidia2"
