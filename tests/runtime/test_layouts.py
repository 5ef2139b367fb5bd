"""Drivers laid out as distributions do it: the same container comes of each, and its loader finds everything."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
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


def as_debian_has_it(host: SimulatedHost) -> None:
    """Debian's non-free packages: files in nvidia/current, links to them through /etc/alternatives, by ldconfig."""
    root = host.driver_root
    libraries = root / "usr/lib" / MULTIARCH
    current = libraries / "nvidia/current"
    _move_libraries(libraries, current)
    (root / "etc/alternatives").mkdir(parents=True)
    for path in sorted(current.iterdir()):
        if ".so" in path.name and path.is_symlink():
            _alternative(root, libraries / path.name, f"nvidia--{path.name}-{MULTIARCH}", path)
    programs = root / "usr/lib/nvidia/current"
    programs.mkdir(parents=True)
    (root / "usr/bin/nvidia-smi").rename(programs / "nvidia-smi")
    _alternative(root, root / "usr/bin/nvidia-smi", "nvidia--nvidia-smi", programs / "nvidia-smi")
    subprocess.run(["ldconfig", "-X", "-r", root], check=True, capture_output=True)


def _alternative(root: Path, path: Path, name: str, target: Path) -> None:
    (root / "etc/alternatives" / name).symlink_to(f"/{target.relative_to(root)}")
    path.symlink_to(f"/etc/alternatives/{name}")


def without_ldconfig(host: SimulatedHost) -> None:
    """A host of another C library, or one whose ld cache is not of the driver's root."""
    for name in ("ld.so.cache", "ld.so.conf"):
        (host.driver_root / "etc" / name).unlink()


def as_nixos_has_it(host: SimulatedHost) -> None:
    """Everything in a store; /run/opengl-driver holds links to it; no ld cache; programs in the system's profile."""
    without_ldconfig(host)
    root = host.driver_root
    store = root / "nix/store/0123-nvidia-x11"
    _move_libraries(root / "usr/lib" / MULTIARCH, store / "lib")
    for name, source in (("share", "usr/share"), ("bin", "usr/bin")):
        (root / source).rename(store / name)
    for name in ("lib", "share"):
        (root / "run/opengl-driver" / name).mkdir(parents=True)
        for path in (store / name).iterdir():
            (root / "run/opengl-driver" / name / path.name).symlink_to(f"/{path.relative_to(root)}")
    (root / "run/current-system/sw/bin").mkdir(parents=True)
    (root / "run/current-system/sw/bin/nvidia-smi").symlink_to(f"/{(store / 'bin/nvidia-smi').relative_to(root)}")
    (root / "run/opengl-driver/share/OpenCL/vendors").mkdir(parents=True)
    shutil.move(root / "etc/OpenCL/vendors/nvidia.icd", root / "run/opengl-driver/share/OpenCL/vendors/nvidia.icd")


def _move_libraries(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path != target and target not in path.parents and path not in target.parents:
            path.rename(target / path.name)


LAYOUTS: dict[str, tuple[dict[str, Any], Callable[[SimulatedHost], None] | None]] = {
    "debian": ({"driver_version": V}, None),
    "lib64": ({"driver_version": V, "layout": "lib64"}, None),
    "usr-local-nvidia": ({"driver_version": V, "layout": "usr-local-nvidia"}, None),
    "usr-local-nvidia-535": ({"driver_version": OLD, "layout": "usr-local-nvidia"}, None),
    "debian-alternatives": ({"driver_version": V}, as_debian_has_it),
    "no-ldconfig": ({"driver_version": V}, without_ldconfig),
    "no-ldconfig-lib64": ({"driver_version": V, "layout": "lib64"}, without_ldconfig),
    "no-ldconfig-usr-local": ({"driver_version": OLD, "layout": "usr-local-nvidia"}, without_ldconfig),
    "nixos": ({"driver_version": V}, as_nixos_has_it),
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
    [*((layout, "debian") for layout in LAYOUTS), ("debian-alternatives", "rhel"), ("nixos", "rhel")],
)
def test_the_same_container_comes_of_every_layout(runtime, make_bundle, hosts, layout, image):
    host = hosts(layout)
    version = host.driver_version
    names = [name.format(version=version) for name in LIBRARIES]
    paths = [path.format(version=version) for path in FILES]
    asked = [f"dlopen={name}" for name in names] + [f"stat={path}" for path in paths]
    env = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=all")
    seen = runtime.run(make_bundle(*asked, "open=/dev/nvidia0", env=env, image=image, config=host.config)).seen()
    place = f"/usr/lib/{MULTIARCH}/" if image == "debian" else "/usr/lib64/"
    for name in names:
        found = seen[f"dlopen={name}"]
        assert found.startswith((place, place.removeprefix("/usr"))), found
    for path in paths:
        assert seen[f"stat={path}"].startswith("f "), path
    assert seen["open=/dev/nvidia0"] == "ENXIO"


def test_what_is_rearranged_is(machine, hosts):
    """Each layout is another one: no library is where the first layout has it, or its ld cache is gone."""
    usual = hosts("debian").driver_root / "usr/lib" / MULTIARCH / f"libcuda.so.{V}"
    assert usual.is_file()
    for name in set(LAYOUTS) - {"debian"}:
        root = hosts(name).driver_root
        cached = (root / "etc/ld.so.cache").exists()
        there = root / usual.relative_to(hosts("debian").driver_root)
        assert not cached or not there.exists() or os.path.islink(there), name
