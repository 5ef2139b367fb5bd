"""Finding the driver's libraries: in every layout, of the right version."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.base.formats.ldcache import Entry, build, flags_for
from oci_gpu_hook.devices.nvidia import discovery, files, libraries
from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
from tests.unit.devices.nvidia import driver_trees as trees

VERSION = "580.95.05"
pytestmark = pytest.mark.usefixtures("x86_64")


def find(root, search_paths=(), version=VERSION):
    return libraries.find(DriverRoot(str(root)), version, search_paths)


def names(found, bits=64):
    return sorted(library.name for library in found.libraries if library.bits == bits)


def ld_cache(root, *paths, bits=64):
    entries = [Entry(name=os.path.basename(path), path=path, flags=flags_for("x86_64", bits)) for path in paths]
    trees.write(f"{root}/etc/ld.so.cache", build(entries))


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
    trees.library(f"{container}/usr/bin/nvidia-smi")
    trees.proc(tmp_path / "proc")
    (tmp_path / "host").mkdir()
    monkeypatch.setattr(discovery, "_DRIVER_CONTAINER", str(container))
    host = str(tmp_path / "host")
    monkeypatch.setattr(discovery, "DriverRoot", lambda path: DriverRoot(host if path == "/" else path))
    held = discovery.discover(trees.config(tmp_path, driver_root="/"))
    assert held.inventory.libraries[0].host_path.startswith(str(container))
    assert [file.host_path for file in held.inventory.files] == [f"{container}/usr/bin/nvidia-smi"]


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
