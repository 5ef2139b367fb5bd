"""Finding the driver's other files: programs, configuration, firmware, sockets."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base import log
from oci_gpu_hook.devices.nvidia import discovery, files
from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
from tests.unit.devices.nvidia import driver_trees as trees

VERSION = "580.95.05"
pytestmark = pytest.mark.usefixtures("x86_64")


def other_files(root, firmware_path=""):
    found = files.find(DriverRoot(str(root)), VERSION, (), firmware_path)
    return {file.container_path: file.host_path.removeprefix(str(root)) for file in found.files}


def test_programs_behind_debians_alternatives(tmp_path):
    trees.library(f"{tmp_path}/usr/lib/nvidia/current/nvidia-smi")
    assert other_files(tmp_path) == {"/usr/bin/nvidia-smi": "/usr/lib/nvidia/current/nvidia-smi"}
    trees.link(f"{tmp_path}/etc/alternatives/nvidia--nvidia-smi", "/usr/lib/nvidia/current/nvidia-smi")
    trees.link(f"{tmp_path}/usr/bin/nvidia-smi", "/etc/alternatives/nvidia--nvidia-smi")
    assert other_files(tmp_path) == {"/usr/bin/nvidia-smi": "/usr/lib/nvidia/current/nvidia-smi"}


@pytest.mark.parametrize("name", ["nvidia_icd.json", "nvidia_icd.x86_64.json"])
def test_vulkan_configuration_lands_where_loaders_look(tmp_path, name):
    trees.write(f"{tmp_path}/usr/share/vulkan/icd.d/{name}")
    assert other_files(tmp_path) == {"/etc/vulkan/icd.d/nvidia_icd.json": f"/usr/share/vulkan/icd.d/{name}"}


def test_gke_has_vulkan_beside_the_libraries(tmp_path):
    trees.write(f"{tmp_path}/usr/local/nvidia/vulkan/icd.d/nvidia_icd.json")
    assert list(other_files(tmp_path)) == ["/etc/vulkan/icd.d/nvidia_icd.json"]


def test_firmware(tmp_path):
    for name in ("gsp_ga10x.bin", "gsp_tu10x.bin", "gsp.txt", "ucodes_gb10x.bin"):
        trees.write(f"{tmp_path}/lib/firmware/nvidia/{VERSION}/{name}")
    trees.write(f"{tmp_path}/lib/firmware/nvidia/550.54.15/gsp_ga10x.bin")
    assert sorted(other_files(tmp_path)) == [
        f"/lib/firmware/nvidia/{VERSION}/{name}" for name in ("gsp_ga10x.bin", "gsp_tu10x.bin", "ucodes_gb10x.bin")
    ]


@pytest.mark.parametrize("directory", ["/lib/firmware/updates/6.1.0", "/lib/firmware/6.1.0", "/opt/firmware"])
def test_firmware_is_where_the_kernel_looks_first(tmp_path, directory):
    for place in ("/lib/firmware", directory):
        trees.write(f"{tmp_path}{place}/nvidia/{VERSION}/gsp_ga10x.bin")
    assert other_files(tmp_path, "/opt/firmware") == {
        f"/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin": f"{directory}/nvidia/{VERSION}/gsp_ga10x.bin"
    }


def test_x_modules_stay_where_they_are(tmp_path):
    for path in ("drivers/nvidia_drv.so", f"extensions/libglxserver_nvidia.so.{VERSION}"):
        trees.write(f"{tmp_path}/usr/lib64/xorg/modules/{path}")
    found = files.find(DriverRoot(str(tmp_path)), VERSION, (), "")
    assert [file.container_path for file in found.files] == [
        "/usr/lib64/xorg/modules/drivers/nvidia_drv.so",
        f"/usr/lib64/xorg/modules/extensions/libglxserver_nvidia.so.{VERSION}",
    ]
    assert [(link.path, link.target) for link in found.links] == [
        ("/usr/lib64/xorg/modules/extensions/libglxserver_nvidia.so", f"libglxserver_nvidia.so.{VERSION}")
    ]


def test_socket_directories(tmp_path):
    (tmp_path / "run/nvidia-persistenced").mkdir(parents=True)
    trees.write(f"{tmp_path}/run/nvidia-fabricmanager")  # no directory
    found = files.find(DriverRoot(str(tmp_path)), VERSION, (), "")
    assert [(file.container_path, file.options) for file in found.files] == [
        ("/var/run/nvidia-persistenced", ("ro", "nosuid", "nodev", "noexec"))
    ]


def test_a_script_in_front_of_a_program_is_not_the_program(tmp_path):
    trees.write(f"{tmp_path}/usr/bin/nvidia-smi", b"#!/bin/sh\nexec /usr/local/nvidia/bin/nvidia-smi\n")
    trees.write(f"{tmp_path}/usr/local/nvidia/bin/nvidia-smi", b"\x7fELF")
    found = files.find(DriverRoot(str(tmp_path)), VERSION, [], "")
    smi = next(file for file in found.files if file.container_path == "/usr/bin/nvidia-smi")
    assert smi.host_path == f"{tmp_path}/usr/local/nvidia/bin/nvidia-smi"


def test_what_the_driver_does_not_ship_is_said_to_who_looks_for_a_cause(tmp_path, monkeypatch):
    trees.driver(tmp_path / "driver", VERSION)
    trees.write(f"{tmp_path}/driver/usr/bin/nvidia-smi", b"\x7fELF")
    trees.proc(tmp_path / "proc", VERSION)
    said = []
    monkeypatch.setattr(log, "debug", lambda event, **fields: said.append((event, fields)))
    discovery.discover(trees.config(tmp_path))
    ((event, fields),) = said
    assert event == "not shipped by the driver"
    assert {"libnvidia-nvvm", "nvidia-persistenced", "vulkan/icd.d/nvidia_icd.json"} <= set(fields["files"])
    assert not {"libcuda", "libnvidia-ml", "nvidia-smi", "libGL", "nvidia-settings"} & set(fields["files"])
