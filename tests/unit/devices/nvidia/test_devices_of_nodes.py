"""Which devices a container can use by the nodes in its bundle."""

from __future__ import annotations

import pytest

from oci_gpu_hook.devices.nvidia import device_nodes
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import DeviceNode, Gpu, MigDevice, RequestInventory
from oci_gpu_hook.oci.container import State, of_document

NUMBERS = {
    "/dev/nvidia0": (195, 0),
    "/dev/nvidia4": (195, 4),
    "/dev/nvidiactl": (195, 255),
    "/dev/nvidia-caps/nvidia-cap21": (240, 21),
    "/dev/nvidia-caps/nvidia-cap22": (240, 22),
    "/dev/nvidia-caps/nvidia-cap31": (240, 31),
    "/dev/nvidia-caps/nvidia-cap32": (240, 32),
}


def mig(index, first):
    return MigDevice(
        index=index, uuid=f"MIG-{index}", gpu_instance=index, compute_instance=0, profile="1g.10gb", memory=1,
        gpu_instance_minor=first, compute_instance_minor=first + 1,
    )  # fmt: skip


GPUS = (
    Gpu(index=0, uuid="GPU-0", minor=4, bus_id="00000000:01:00.0"),
    Gpu(
        index=1, uuid="GPU-1", minor=0, bus_id="00000000:02:00.0", mig_enabled=True,
        mig_devices=(mig(0, 21), mig(1, 31)),
    ),
)  # fmt: skip
NODES = tuple(
    DeviceNode(path=path, host_path=f"/host{path}", major=major, minor=minor, mode=0o666, uid=0, gid=0)
    for path, (major, minor) in NUMBERS.items()
)
INVENTORY = RequestInventory(
    wanted=frozenset(), driver_version="580.1", gpus=GPUS, libraries=(), files=(), links=(), nodes=NODES
)  # fmt: skip


def found(*paths, bound=()):
    numbers = [NUMBERS.get(path, (1, 3)) for path in paths]
    devices = of_nvidia.of(GPUS)
    return [device.uuid for device in device_nodes.devices_of(devices, INVENTORY, numbers, bound)]


@pytest.mark.parametrize(
    ("paths", "uuids"),
    [
        ((), []),
        (("/dev/nvidiactl", "/dev/null"), []),
        (("/dev/nvidia4",), ["GPU-0"]),
        (("/dev/nvidia0",), ["GPU-1"]),
        (("/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap21"), ["GPU-1"]),
        (("/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-caps/nvidia-cap22"), ["MIG-0"]),
        (("/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-caps/nvidia-cap22"), []),
        (tuple(NUMBERS), ["GPU-0", "MIG-0", "MIG-1"]),
    ],
)
def test_nodes_are_known_by_their_numbers(paths, uuids):
    assert found(*paths) == uuids


def test_nodes_that_are_bound_are_known_by_their_place_on_the_host():
    assert found(bound=("/host/dev/nvidia4", "/dev/nvidia0")) == ["GPU-0"]


def container(*, rules=(), devices=(), mounts=()):
    document = {
        "process": {},
        "root": {"path": "rootfs"},
        "mounts": list(mounts),
        "linux": {"devices": list(devices), "resources": {"devices": list(rules)}},
    }
    return of_document(document, State(id="a", pid=0, bundle="/b", root="", annotations={}))


def test_a_bundle_tells_its_character_devices_and_what_is_bound_into_dev():
    nodes = [
        {"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0},
        {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0},
        {"path": "/dev/pipe", "type": "p"},
        {"path": "/dev/odd", "type": "u", "major": 7, "minor": 7},
    ]
    mounts = [
        {"destination": "/dev/nvidia1", "source": "/dev/nvidia1", "type": "bind"},
        {"destination": "/dev/shm", "source": "shm", "type": "tmpfs"},
        {"destination": "/data", "source": "/dev/nvidia2", "type": "bind"},
    ]
    seen = container(devices=nodes, mounts=mounts)
    assert (seen.nodes, seen.bound_nodes) == (((195, 0), (7, 7)), ("/dev/nvidia1",))


@pytest.mark.parametrize(
    ("rule", "every"),
    [
        ({"allow": True, "access": "rwm"}, True),
        ({"allow": True, "type": "a"}, True),
        ({"allow": True, "type": "a", "major": -1, "minor": -1}, True),
        ({"allow": False, "access": "rwm"}, False),
        ({"allow": True, "type": "c", "access": "m"}, False),
        ({"allow": True, "type": "a", "major": 195}, False),
    ],
)
def test_a_rule_for_every_device_is_told(rule, every):
    assert container(rules=[rule]).has_every_device == every
