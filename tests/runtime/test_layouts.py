"""Drivers laid out as distributions do it: the same container comes of each, and its loader finds everything."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.rootfs import MULTIARCH
from tests.runtime.simulated import SimulatedHost

V = "580.159.04"
OLD = "535.261.03"
LIBRARIES = (
    "libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1", "libnvidia-nvvm.so.4",
    "libnvcuvid.so.1", "libnvidia-encode.so.1", "libvdpau_nvidia.so.1", "libGLX_nvidia.so.0", "libEGL_nvidia.so.0",
    "libnvidia-glcore.so.{version}", "libnvidia-tls.so.{version}", "libnvoptix.so.1", "libnvidia-egl-gbm.so.1",
    "libnvidia-allocator.so.1", "libnvidia-ngx.so.1",
)  # fmt: skip
FILES = (
    "/usr/bin/nvidia-smi", "/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "/etc/vulkan/icd.d/nvidia_icd.json",
    "/etc/OpenCL/vendors/nvidia.icd", "/usr/share/nvidia/nvoptix.bin", "/lib/firmware/nvidia/{version}/gsp_ga10x.bin",
)  # fmt: skip


def without_ldconfig(host: SimulatedHost) -> None:
    """A host of another C library, or one whose ld cache is not of the driver's root."""
    for name in ("ld.so.cache", "ld.so.conf"):
        (host.driver_root / "etc" / name).unlink()


# Layouts that one runtime is enough for: what differs is what discovery finds.
ELSEWHERE = ("debian-alternatives", "debian-tesla", "opensuse", "arch", "run", "cos", "bottlerocket", "flatcar",
             "talos", "nixos", "driver-container")  # fmt: skip
LAYOUTS: dict[str, tuple[dict[str, Any], Callable[[SimulatedHost], None] | None]] = {
    "debian": ({"driver_version": V}, None),
    "lib64": ({"driver_version": V, "layout": "lib64"}, None),
    "usr-local-nvidia": ({"driver_version": V, "layout": "usr-local-nvidia"}, None),
    "usr-local-nvidia-535": ({"driver_version": OLD, "layout": "usr-local-nvidia"}, None),
    "no-ldconfig": ({"driver_version": V}, without_ldconfig),
    "no-ldconfig-lib64": ({"driver_version": V, "layout": "lib64"}, without_ldconfig),
    "no-ldconfig-usr-local": ({"driver_version": OLD, "layout": "usr-local-nvidia"}, without_ldconfig),
    **{name: ({"driver_version": V, "layout": name}, None) for name in ELSEWHERE},
}

# All that a layout does not have itself: docs/platforms.md.
LACKING = {
    "flatcar": FILES[1:],
    "cos": (FILES[1], FILES[3]),
    "bottlerocket": (FILES[3],),
    "talos": (FILES[3],),
}


@pytest.fixture(scope="module")
def hosts(machine):
    made = {}

    def host_of(name: str) -> SimulatedHost:
        if name not in made:
            settings, rearrange = LAYOUTS[name]
            made[name] = SimulatedHost(machine.work / f"layout-{name}")
            make(str(made[name].directory), gpus=1, **settings)
            if rearrange:
                rearrange(made[name])
        return made[name]

    return host_of


@pytest.mark.parametrize(
    ("layout", "image"),
    [
        *((layout, "debian") for layout in LAYOUTS if layout not in ELSEWHERE[1:-2]),
        ("debian-alternatives", "rhel"),
        ("nixos", "rhel"),
    ],
)
def test_the_same_container_comes_of_every_layout(runtime, make_bundle, hosts, layout, image):
    look_inside(runtime, make_bundle, hosts(layout), image, LACKING.get(layout, ()))


@pytest.mark.parametrize("layout", ELSEWHERE[1:-2])
def test_the_same_container_comes_of_a_driver_elsewhere(runc_v2, make_bundle, hosts, layout):
    look_inside(runc_v2, make_bundle, hosts(layout), "debian", LACKING.get(layout, ()))


@pytest.mark.parametrize(
    ("layout", "place", "image"),
    [("opensuse", "/usr/lib64", "debian"), ("opensuse", "/usr/lib64", "rhel"), ("nixos", "", "debian")],
)
def test_what_a_file_for_loaders_names_is_there(runc_v2, make_bundle, hosts, layout, place, image):
    """The ICD files of these hosts name the host's own library directory, which images do not have."""
    host = hosts(layout)
    place = place or "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nvidia-x11-580.159.04/lib"
    path = f"{place}/libGLX_nvidia.so.0"
    icds = [file for file in host.driver_root.glob("**/icd.d/nvidia_icd.x*.json") if not file.is_symlink()]
    assert path in icds[0].read_text()
    env = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=all")
    seen = runc_v2.run(make_bundle(f"dlopen={path}", env=env, image=image, config=host.config)).seen()
    assert seen[f"dlopen={path}"] == path


def look_inside(runtime, make_bundle, host, image, lacking):
    """Start a container of an image, and compare what it has with what every host's has."""
    version = host.driver_version
    names = [name.format(version=version) for name in LIBRARIES]
    paths = [path.format(version=version) for path in FILES]
    absent = [path.format(version=version) for path in lacking]
    asked = [f"dlopen={name}" for name in names] + [f"stat={path}" for path in paths]
    env = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=all")
    seen = runtime.run(make_bundle(*asked, "open=/dev/nvidia0", env=env, image=image, config=host.config)).seen()
    place = f"/usr/lib/{MULTIARCH}/" if image == "debian" else "/usr/lib64/"
    for name in names:
        found = seen[f"dlopen={name}"]
        assert found.startswith((place, place.removeprefix("/usr"))), found
    for path in paths:
        assert seen[f"stat={path}"].startswith("f ") != (path in absent), path
    assert seen["open=/dev/nvidia0"] == "ENXIO"


def test_what_is_rearranged_is(machine, hosts):
    """Each layout is another one: no library is where the first layout has it, or its ld cache is gone."""
    usual = hosts("debian").driver_root / "usr/lib" / MULTIARCH / f"libcuda.so.{V}"
    assert usual.is_file()
    for name in set(LAYOUTS) - {"debian", "run"}:
        root = hosts(name).directory / "driver"
        cached = (root / "etc/ld.so.cache").exists()
        there = root / usual.relative_to(hosts("debian").driver_root)
        assert not cached or not there.exists() or os.path.islink(there), name
