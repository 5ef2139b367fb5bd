"""The simulated host's nodes, and what its programs see in a real container that was granted some of them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

import pytest

from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base.errors import SimulationError
from tests.runtime import bundle as bundles

pytestmark = pytest.mark.root
ALLOWED = {"allow": True, "type": "c", "access": "rw"}


@pytest.fixture
def host(directory):
    return make(str(directory / "host"), gpus=2, minors=(1, 0), mig=True)


def node(host, path):
    found = os.stat(f"{host.dev_root}/dev/{path}")
    assert stat.S_ISCHR(found.st_mode), path
    return os.major(found.st_rdev), os.minor(found.st_rdev), stat.S_IMODE(found.st_mode)


def test_nodes_have_the_numbers_and_modes_of_a_real_host(machine, host):
    assert node(host, "nvidiactl") == (195, 255, 0o666)
    assert node(host, "nvidia-modeset") == (195, 254, 0o666)
    assert node(host, "nvidia0") == (195, 0, 0o666)
    assert node(host, "nvidia1") == (195, 1, 0o666)
    with open(f"{host.proc_root}/devices") as file:
        listed = {name: int(major) for major, name in (line.split() for line in file if line[:3].strip().isdigit())}
    assert node(host, "nvidia-uvm") == (listed["nvidia-uvm"], 0, 0o666)
    assert node(host, "nvidia-uvm-tools") == (listed["nvidia-uvm"], 1, 0o666)
    assert node(host, "nvidia-caps/nvidia-cap1") == (listed["nvidia-caps"], 1, 0o400)
    assert node(host, "nvidia-caps/nvidia-cap2") == (listed["nvidia-caps"], 2, 0o444)
    assert node(host, "nvidia-caps-imex-channels/channel1") == (listed["nvidia-caps-imex-channels"], 1, 0o666)
    assert node(host, "nvidia-nvswitchctl") == (listed["nvidia-nvswitch"], 255, 0o666)
    assert node(host, "nvidia-fs0") == (listed["nvidia-fs"], 0, 0o666)
    assert node(host, "gdrdrv") == (listed["gdrdrv"], 0, 0o666)
    assert node(host, "infiniband/uverbs0") == (listed["infiniband_verbs"], 192, 0o666)
    for gpu in host.gpus:
        for device in gpu.mig_devices:
            minor = device.compute_instance_minor
            assert node(host, f"nvidia-caps/nvidia-cap{minor}") == (listed["nvidia-caps"], minor, 0o444)
        card, render = host.numbers.drm(gpu.index)
        assert node(host, f"dri/{card}") == (226, int(card[4:]), 0o660)
        assert node(host, f"dri/{render}") == (226, int(render[7:]), 0o660)
        assert os.path.samefile(
            f"{host.dev_root}/dev/dri/by-path/pci-{gpu.bus_id}-render", f"{host.dev_root}/dev/dri/{render}"
        )


def test_without_permission_the_remedy_is_named(directory, monkeypatch):
    def mknod(*_arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "mknod", mknod)
    with pytest.raises(SimulationError, match=r"CAP_MKNOD .*; run it as root \(sudo\), or .*--no-device-nodes"):
        make(str(directory / "host"))
    assert not (directory / "host").exists()


@pytest.mark.parametrize("option", ["nodev", "noexec"])
def test_a_file_system_that_would_not_serve_is_refused(directory, option):
    place = directory / option
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", place], check=True)
    try:
        with pytest.raises(SimulationError, match=f"is mounted {option}"):
            make(str(place / "host"))
        assert not os.listdir(place)
    finally:
        subprocess.run(["umount", place], check=True)


def container(host, directory, *granted):
    """A container with no C library whose /dev has every node of the host, of which the cgroup allows some."""
    rootfs = directory / "bundle/rootfs"
    for folder in ("proc", "dev", "sys"):
        (rootfs / folder).mkdir(parents=True)
    shutil.copy(f"{host.driver_root}/usr/bin/nvidia-smi", rootfs / "nvidia-smi")
    rules = []
    for name in granted:
        major, minor, _mode = node(host, name)
        rules.append({**ALLOWED, "major": major, "minor": minor})
    bundle = bundles.make(
        directory / "bundle", ["/nvidia-smi", "-L"], devices=(bundles.NO_DEVICES, *rules), capabilities=()
    )
    nodes = ["nvidiactl", "nvidia0", "nvidia1"]
    nodes += [f"nvidia-caps/{name}" for name in os.listdir(f"{host.dev_root}/dev/nvidia-caps")]
    bundle.config["mounts"] += [
        {
            "destination": f"/dev/{name}",
            "source": f"{host.dev_root}/dev/{name}",
            "type": "bind",
            "options": ["bind"],
        }
        for name in nodes
    ]
    return bundle


@pytest.mark.parametrize("index", [0, 1])
def test_a_container_sees_the_gpu_that_its_cgroup_lets_through(runtime, host, directory, index):
    gpu = host.gpus[index]
    result = runtime.run(container(host, directory, "nvidiactl", f"nvidia{gpu.minor}"))
    assert result.stdout == f"GPU 0: NVIDIA H100 80GB HBM3 (UUID: {gpu.uuid})\n", result.stderr


def test_a_container_sees_the_mig_device_whose_capabilities_it_holds(runtime, host, directory):
    gpu, device = host.gpus[1], host.gpus[1].mig_devices[2]
    capabilities = [f"nvidia-caps/nvidia-cap{n}" for n in (device.gpu_instance_minor, device.compute_instance_minor)]
    result = runtime.run(container(host, directory, "nvidiactl", f"nvidia{gpu.minor}", *capabilities))
    assert result.stdout.splitlines() == [
        f"GPU 0: NVIDIA H100 80GB HBM3 (UUID: {gpu.uuid})",
        f"  MIG 1g.10gb     Device  0: (UUID: {device.uuid})",
    ], result.stderr


def test_a_container_without_the_control_node_sees_no_driver(runtime, host, directory):
    result = runtime.run(container(host, directory, "nvidia0"))
    assert result.status == 9
    assert "couldn't communicate with the NVIDIA driver" in result.stdout


def test_a_container_with_the_driver_alone_sees_no_device(runtime, host, directory):
    result = runtime.run(container(host, directory, "nvidiactl"))
    assert (result.status, result.stdout) == (6, "No devices were found\n")
