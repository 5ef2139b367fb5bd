"""Finding the driver's files: in every layout, of the right version, by the table of capabilities."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.base.formats.ldcache import Entry, build, flags_for
from oci_gpu_hook.devices.nvidia import capabilities, discovery, files, libraries
from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
from tests.unit import driver_trees as trees

VERSION = "580.95.05"


@pytest.fixture(autouse=True)
def x86_64(monkeypatch):
    trees.machine(monkeypatch)


def find(root, search_paths=(), version=VERSION):
    return libraries.find(DriverRoot(str(root)), version, search_paths)


def names(found, bits=64):
    return sorted(library.name for library in found.libraries if library.bits == bits)


def ld_cache(root, *paths, bits=64):
    entries = [Entry(name=os.path.basename(path), path=path, flags=flags_for("x86_64", bits)) for path in paths]
    trees.write(f"{root}/etc/ld.so.cache", build(entries))


# Layouts


@pytest.mark.parametrize(
    "directory",
    ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib64/nvidia", "usr/lib", "usr/local/nvidia/lib64",
     "usr/local/nvidia/lib", "run/opengl-driver/lib", "usr/lib/nvidia", "usr/lib/x86_64-linux-gnu/nvidia/current"],
)  # fmt: skip
def test_hosts_without_ldconfig(tmp_path, directory):
    trees.driver(tmp_path, VERSION, directory)
    assert names(find(tmp_path)) == [f"libcuda.so.{VERSION}", f"libnvidia-ml.so.{VERSION}"]


def test_a_directory_that_only_the_ld_cache_knows(tmp_path):
    trees.driver(tmp_path, VERSION, "opt/driver/libraries")
    with pytest.raises(DriverError, match="no NVIDIA driver libraries"):
        find(tmp_path)
    ld_cache(tmp_path, "/opt/driver/libraries/libcuda.so.1")
    assert names(find(tmp_path)) == [f"libcuda.so.{VERSION}", f"libnvidia-ml.so.{VERSION}"]


def test_a_directory_that_only_the_configuration_knows(tmp_path):
    trees.driver(tmp_path, VERSION, "opt/libraries")
    assert names(find(tmp_path, ["/opt/nothing", "/opt/libraries"])) == [
        f"libcuda.so.{VERSION}",
        f"libnvidia-ml.so.{VERSION}",
    ]


def test_links_of_the_ld_cache_are_followed_to_where_the_files_are(tmp_path):
    """Debian: /usr/lib/…/libcuda.so.1 → /etc/alternatives/… → …/nvidia/current/libcuda.so.1, counted from the root."""
    where = trees.driver(tmp_path, VERSION, "opt/nvidia/current")
    trees.library(f"{where}/libnvidia-nvvm.so.{VERSION}", "libnvidia-nvvm.so.4")
    trees.link(f"{tmp_path}/etc/alternatives/nvidia--libcuda.so.1", "/opt/nvidia/current/libcuda.so.1")
    trees.link(f"{tmp_path}/usr/lib/loader/libcuda.so.1", "/etc/alternatives/nvidia--libcuda.so.1")
    ld_cache(tmp_path, "/usr/lib/loader/libcuda.so.1")
    found = find(tmp_path)
    assert names(found) == [f"{stem}.so.{VERSION}" for stem in ("libcuda", "libnvidia-ml", "libnvidia-nvvm")]
    assert {os.path.dirname(library.host_path) for library in found.libraries} == {where}


def test_a_damaged_ld_cache_is_passed_over(tmp_path):
    trees.driver(tmp_path)
    trees.write(f"{tmp_path}/etc/ld.so.cache", b"glibc-ld.so.cache1.1" + b"\xff" * 100)
    assert len(find(tmp_path).libraries) == 2


def test_versioned_names_may_be_links_into_a_store(tmp_path):
    """NixOS: /run/opengl-driver/lib holds nothing but absolute links."""
    store = trees.driver(tmp_path, VERSION, "nix/store/abc-nvidia-x11/lib")
    for name in os.listdir(store):
        trees.link(f"{tmp_path}/run/opengl-driver/lib/{name}", f"/nix/store/abc-nvidia-x11/lib/{name}")
    found = find(tmp_path)
    assert [library.host_path for library in found.libraries] == [
        f"{store}/libcuda.so.{VERSION}",
        f"{store}/libnvidia-ml.so.{VERSION}",
    ]


def test_links_that_lead_out_or_round_are_nothing(tmp_path):
    trees.driver(tmp_path)
    where = f"{tmp_path}/usr/lib/x86_64-linux-gnu"
    trees.link(f"{where}/libnvidia-cfg.so.{VERSION}", "/../../../../../../etc/passwd")
    trees.link(f"{where}/libnvidia-nvvm.so.{VERSION}", f"libnvidia-nvvm.so.{VERSION}")
    trees.link(f"{where}/libnvidia-tls.so.{VERSION}", "/usr/lib/nowhere")
    assert len(find(tmp_path).libraries) == 2


def test_a_file_that_is_no_library_or_of_another_machine_is_left(tmp_path):
    where = trees.driver(tmp_path)
    trees.write(f"{where}/libnvidia-cfg.so.{VERSION}", b"hello")
    trees.library(f"{where}/libnvidia-nvvm.so.{VERSION}", "libnvidia-nvvm.so.4", "aarch64")
    assert len(find(tmp_path).libraries) == 2


def test_aarch64(tmp_path, monkeypatch):
    trees.machine(monkeypatch, "aarch64")
    trees.driver(tmp_path, VERSION, "usr/lib/aarch64-linux-gnu", "aarch64")
    assert len(find(tmp_path).libraries) == 2


def test_32_bit_libraries_stand_beside(tmp_path):
    trees.driver(tmp_path)
    trees.driver(tmp_path, VERSION, "usr/lib/i386-linux-gnu", "i386")
    ld_cache(tmp_path, "/usr/lib/x86_64-linux-gnu/libcuda.so.1", "/usr/lib/i386-linux-gnu/libcuda.so.1")
    found = find(tmp_path)
    assert names(found, 32) == names(found, 64) == [f"libcuda.so.{VERSION}", f"libnvidia-ml.so.{VERSION}"]


def test_a_driver_container_is_found_when_the_host_has_no_driver_files(tmp_path, monkeypatch):
    container = tmp_path / "run/nvidia/driver"
    trees.driver(container)
    trees.write(f"{container}/usr/bin/nvidia-smi")
    trees.proc(tmp_path / "proc")
    (tmp_path / "host").mkdir()
    monkeypatch.setattr(discovery, "_DRIVER_CONTAINER", str(container))
    real = discovery.DriverRoot
    monkeypatch.setattr(discovery, "DriverRoot", lambda path: real(str(tmp_path / "host") if path == "/" else path))
    held = discovery.discover(trees.config(tmp_path, driver_root="/"))
    assert held.inventory.libraries[0].host_path.startswith(str(container))
    assert [file.host_path for file in held.inventory.files] == [f"{container}/usr/bin/nvidia-smi"]


# Versions


def test_libraries_of_another_version_are_an_error_that_says_both(tmp_path):
    trees.driver(tmp_path, "550.54.15")
    with pytest.raises(DriverError) as caught:
        find(tmp_path)
    assert "the kernel runs version 580.95.05, the libraries are of version 550.54.15" in str(caught.value)
    assert "reboot or reload" in str(caught.value)


def test_libraries_with_versions_of_their_own_make_no_driver(tmp_path):
    where = trees.driver(tmp_path, "550.54.15")
    trees.library(f"{where}/libnvidia-egl-gbm.so.1.1.2", "libnvidia-egl-gbm.so.1")
    with pytest.raises(DriverError, match=r"are of version 550\.54\.15"):
        find(tmp_path)


def test_of_two_versions_the_kernels_counts(tmp_path):
    trees.driver(tmp_path, "550.54.15", "usr/lib64")
    trees.driver(tmp_path, VERSION, "usr/local/nvidia/lib64")
    assert names(find(tmp_path)) == [f"libcuda.so.{VERSION}", f"libnvidia-ml.so.{VERSION}"]


def test_a_version_that_only_ends_alike_is_another(tmp_path):
    trees.driver(tmp_path, "1580.95.05")
    with pytest.raises(DriverError, match=r"are of version 1580\.95\.05"):
        find(tmp_path)


def test_no_libraries_at_all(tmp_path):
    with pytest.raises(DriverError, match=r"no file of version 580\.95\.05"):
        find(tmp_path)


@pytest.mark.parametrize("name", ["libnvidia-egl-gbm", "libnvidia-egl-wayland"])
def test_libraries_with_versions_of_their_own(tmp_path, name):
    where = trees.driver(tmp_path)
    trees.library(f"{where}/{name}.so.1.1.0", f"{name}.so.1")
    trees.library(f"{where}/{name}.so.1.1.2", f"{name}.so.1")
    trees.link(f"{where}/{name}.so.1", f"{name}.so.1.1.2")
    (found,) = [library for library in find(tmp_path).libraries if library.name.startswith(name)]
    assert found.name == f"{name}.so.1.1.2"
    assert found.links == ((f"{name}.so.1", f"{name}.so.1.1.2"),)


def test_a_library_whose_name_is_its_soname_needs_no_link(tmp_path):
    where = trees.driver(tmp_path)
    trees.library(f"{where}/libnvidia-nvvm70.so.4", "libnvidia-nvvm70.so.4")
    (found,) = [library for library in find(tmp_path).libraries if "nvvm70" in library.name]
    assert (found.soname, found.links) == ("libnvidia-nvvm70.so.4", ())


# What stands beside a library


def test_links_of_libraries(tmp_path):
    where = trees.driver(tmp_path)
    trees.library(f"{where}/libGLX_nvidia.so.{VERSION}", "libGLX_nvidia.so.0")
    trees.library(f"{where}/libnvidia-encode.so.{VERSION}", "libnvidia-encode.so.1")
    trees.library(f"{where}/libnvidia-ngx.so.{VERSION}", "libnvidia-ngx.so.1")
    trees.library(f"{where}/libnvidia-vulkan-producer.so.{VERSION}")
    trees.link(f"{where}/libnvidia-ngx.so", "libnvidia-ngx.so.1")
    links = {library.name.partition(".so")[0]: library.links for library in find(tmp_path).libraries}
    assert links["libcuda"] == (("libcuda.so.1", f"libcuda.so.{VERSION}"), ("libcuda.so", "libcuda.so.1"))
    assert links["libGLX_nvidia"] == (
        ("libGLX_nvidia.so.0", f"libGLX_nvidia.so.{VERSION}"),
        ("libGLX_indirect.so.0", f"libGLX_nvidia.so.{VERSION}"),
    )
    assert links["libnvidia-encode"] == (("libnvidia-encode.so.1", f"libnvidia-encode.so.{VERSION}"),)
    assert links["libnvidia-ngx"][-1] == ("libnvidia-ngx.so", "libnvidia-ngx.so.1")
    assert links["libnvidia-vulkan-producer"] == (
        ("libnvidia-vulkan-producer.so", f"libnvidia-vulkan-producer.so.{VERSION}"),
    )


def test_the_gbm_backend_is_a_link_to_the_allocator(tmp_path):
    where = trees.driver(tmp_path)
    assert find(tmp_path).links == ()
    trees.library(f"{where}/libnvidia-allocator.so.{VERSION}", "libnvidia-allocator.so.1")
    (found,) = find(tmp_path).links
    assert (found.path, found.target, found.bits) == ("gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1", 64)


def test_what_no_row_claims_is_listed(tmp_path):
    where = trees.driver(tmp_path)
    trees.library(f"{where}/libnvidia-novelty.so.{VERSION}", "libnvidia-novelty.so.1")
    trees.library(f"{where}/libnvidia-novelty2.so.1")
    trees.library(f"{where}/libglxserver_nvidia.so.{VERSION}")
    trees.library(f"{where}/libvgpu.so.550.1")
    found = find(tmp_path)
    assert found.unclaimed == (f"{where}/libnvidia-novelty.so.{VERSION}",)
    assert len(found.libraries) == 2
    trees.write(f"{tmp_path}/usr/bin/nvidia-novelty")
    trees.write(f"{tmp_path}/usr/bin/nvidia-ctk")
    trees.write(f"{tmp_path}/usr/bin/nvidia-modprobe")
    others = files.find(DriverRoot(str(tmp_path)), VERSION, (), "")
    assert others.unclaimed == (f"{tmp_path}/usr/bin/nvidia-novelty",)


# Other files


def other_files(root, firmware_path=""):
    found = files.find(DriverRoot(str(root)), VERSION, (), firmware_path)
    return {file.container_path: file.host_path.removeprefix(str(root)) for file in found.files}


def test_programs_behind_debians_alternatives(tmp_path):
    trees.write(f"{tmp_path}/usr/lib/nvidia/current/nvidia-smi")
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


# The table and real drivers


def discovered(tmp_path, name, version):
    """Return (paths of the list, path → capabilities as found) of a real driver's file list."""
    listed = trees.of_file_list(tmp_path, name)
    found = find(tmp_path, version=version)
    assert not found.unclaimed
    others = files.find(DriverRoot(str(tmp_path)), version, found.directories, "")
    brought = {
        file.host_path.removeprefix(str(tmp_path)): file.capabilities for file in (*found.libraries, *others.files)
    }
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
    monkeypatch.setattr(discovery.log, "debug", lambda event, **fields: said.append((event, fields)))
    discovery.discover(trees.config(tmp_path))
    ((event, fields),) = said
    assert event == "not shipped by the driver"
    assert {"libnvidia-nvvm", "nvidia-persistenced", "vulkan/icd.d/nvidia_icd.json"} <= set(fields["files"])
    assert not {"libcuda", "libnvidia-ml", "nvidia-smi", "libGL", "nvidia-settings"} & set(fields["files"])
