"""The table of capabilities: it accounts for every file of real drivers, and says nothing twice."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.devices.nvidia import capabilities, files, libraries
from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
from oci_gpu_hook.devices.nvidia.model import DriverFile, Library
from tests.unit.devices.nvidia import driver_trees as trees

pytestmark = pytest.mark.usefixtures("x86_64")


def discovered(tmp_path, name, version):
    """Return (paths of the list, path → capabilities as found) of a real driver's file list."""
    listed = trees.of_file_list(tmp_path, name)
    found = libraries.find(DriverRoot(str(tmp_path)), version, ())
    assert not found.unclaimed
    others = files.find(DriverRoot(str(tmp_path)), version, found.directories, "")
    every: list[Library | DriverFile] = [*found.libraries, *others.files]
    brought = {file.host_path.removeprefix(str(tmp_path)): file.capabilities for file in every}
    return listed, brought, others.unclaimed


# Why each file of a driver that the table does not give is not given.
NOT_FOR_CONTAINERS = (
    "/etc/nvidia/current/nvidia-blacklists-nouveau.conf", "/etc/nvidia/current/nvidia-load.conf",
    "/etc/nvidia/current/nvidia-modprobe.conf", "/etc/nvidia/current/nvidia-options.conf",  # kernel modules
    "/usr/bin/nvidia-modprobe", "/usr/bin/nvidia-sleep.sh", "/usr/bin/nvidia-powerd", "/usr/sbin/nvidia-powerd",
    "/usr/bin/nvidia-bug-report.sh", "/usr/lib/nvidia/current/nvidia-bug-report.sh", "/usr/bin/nvidia-settings",
    "/usr/lib/nvidia/current/nvidia-smi.1.gz", "/usr/lib/nvidia/current/nvidia.ids",
    "/usr/lib/nvidia/alternate-install-present",
    "/usr/lib/x86_64-linux-gnu/libOpenCL.so.1.0.0",  # the image's own OpenCL loader
    "/usr/share/nvidia/files.d/sandboxutils-filelist.json",
    "/usr/share/nvidia/nvidia-application-profiles-535.261.03-key-documentation",
    "/usr/share/nvidia/nvidia-application-profiles-580.142-key-documentation",
    "/usr/share/nvidia/rim/535.261.03/RIM_GH100PROD.swidtag",  # for verifiers of attestation reports
)  # fmt: skip


@pytest.mark.parametrize(("name", "version"), [("debian-535.txt", "535.261.03"), ("fedora-580.txt", "580.142")])
def test_the_table_accounts_for_every_file_of_a_real_driver(tmp_path, name, version):
    listed, brought, unclaimed = discovered(tmp_path, name, version)
    links = {"/usr/lib64/gbm/nvidia-drm_gbm.so"}  # made by the inventory itself
    assert set(listed) - set(brought) - links == set(listed) & set(NOT_FOR_CONTAINERS)
    assert set(brought) <= set(listed)
    assert not unclaimed


def stems(brought, *wanted, below="/usr/lib"):
    return {
        os.path.basename(path).partition(".so")[0]
        for path, given in brought.items()
        if set(given) & set(wanted) and path.startswith(below) and "firmware" not in path and ".so" in path
    }


def test_what_compute_and_utility_bring_of_a_580_driver(tmp_path):
    _, brought, _ = discovered(tmp_path, "fedora-580.txt", "580.142")
    assert stems(brought, "compute") == {
        "libcuda", "libcudadebugger", "libnvidia-allocator", "libnvidia-gpucomp", "libnvidia-nvvm", "libnvidia-nvvm70",
        "libnvidia-opencl", "libnvidia-pkcs11-openssl3", "libnvidia-ptxjitcompiler",
    }  # fmt: skip
    assert stems(brought, "utility") == {"libnvidia-cfg", "libnvidia-ml", "libnvidia-sandboxutils"}
    programs = {path for path, given in brought.items() if path.startswith("/usr/bin") and "compute" in given}
    assert programs == {"/usr/bin/nvidia-cuda-mps-control", "/usr/bin/nvidia-cuda-mps-server"}
    assert brought["/usr/bin/nvidia-smi"] == ("utility",)
    assert brought["/usr/lib/firmware/nvidia/580.142/gsp_ga10x.bin"] == ()


def test_video_brings_compute_libraries_and_display_brings_graphics(tmp_path):
    _, brought, _ = discovered(tmp_path, "fedora-580.txt", "580.142")
    own = {"libvdpau_nvidia", "libnvidia-encode", "libnvidia-opticalflow", "libnvcuvid"}
    assert stems(brought, "video") == stems(brought, "compute") | own
    assert stems(brought, "display") == stems(brought, "graphics") | {"libnvidia-gtk3", "libnvidia-wayland-client"}
    assert "/usr/bin/nvidia-cuda-mps-control" not in [path for path, given in brought.items() if "video" in given]


def test_compat32_of_a_535_driver(tmp_path):
    _, brought, _ = discovered(tmp_path, "debian-535.txt", "535.261.03")
    assert {"libcuda", "libnvidia-ml", "libGLX_nvidia", "libnvidia-tls", "libvdpau_nvidia"} <= stems(
        brought, *capabilities.COMPUTE, *capabilities.UTILITY, *capabilities.GRAPHICS, below="/usr/lib/i386-linux-gnu"
    )


def test_newcomers_of_drivers_after_580_are_claimed():
    rows = {row.stem: row.capabilities for row in capabilities.LIBRARIES}
    assert rows["libnvidia-tileiras"] == capabilities.COMPUTE
    assert rows["libnvidia-egl-wayland2"] == capabilities.GRAPHICS


def test_the_table_says_nothing_twice():
    for table in (
        [row.stem for row in capabilities.LIBRARIES],
        [row.name for row in capabilities.BINARIES],
        [row.container_path for row in capabilities.DATA_FILES],
        [row.path for row in capabilities.NODES],
    ):
        assert len(table) == len(set(table))
