"""Drivers wherever they lie: in each layout of tests/data/nvidia/layouts.json discovery finds what the layout has."""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.admin.simulate.layouts import LAYOUTS
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.devices.nvidia import discovery, snapshot
from tests.paths import DATA, ROOT

VERSION = "580.159.04"
TABLE = json.loads((DATA / "nvidia/layouts.json").read_text())
CONTAINER_PATHS = {
    "nvidia-smi": "/usr/bin/nvidia-smi",
    "firmware": f"/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin",
    "egl": "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
    "vulkan": "/etc/vulkan/icd.d/nvidia_icd.json",
    "opencl": "/etc/OpenCL/vendors/nvidia.icd",
}


def expected(layout: str) -> dict[str, str]:
    machine = platform.machine()
    words = {"version": VERSION, "triplet": f"{machine}-linux-gnu", "machine": machine}
    return {what: path.format(**words) for what, path in TABLE[layout].items() if what != "source"}


def found(config) -> dict[str, str]:
    """Return where discovery finds each part, below the driver root; "" for nowhere."""
    inventory = snapshot.load(config, refresh=True)
    files = {file.container_path: file.host_path for file in inventory.files}
    parts = {what: files.get(path, "") for what, path in CONTAINER_PATHS.items()}
    parts["libcuda"] = next(
        library.host_path
        for library in inventory.libraries
        if library.name == f"libcuda.so.{VERSION}" and library.bits == 64
    )
    root = os.path.realpath(config.driver_root)
    return {what: path.removeprefix(root) for what, path in parts.items()}


def host(tmp_path, layout):
    made = make(str(tmp_path / "host"), layout=layout, device_nodes=False)
    return configs.load(made.config), Path(made.driver_root)


def test_the_table_has_every_layout_with_its_source():
    assert set(TABLE) == set(LAYOUTS)
    assert all(row["source"] for row in TABLE.values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_everything_is_found_where_the_layout_has_it(tmp_path, layout):
    config, _ = host(tmp_path, layout)
    assert found(config) == expected(layout)


@pytest.mark.parametrize("layout", ["debian", "lib64", "arch", "cos", "bottlerocket", "flatcar", "talos", "nixos"])
def test_no_ld_cache_and_no_word_of_the_configuration_or_kernel_are_needed(tmp_path, layout):
    """A system without ldconfig, or whose cache another root has."""
    config, root = host(tmp_path, layout)
    (root / "etc/ld.so.cache").unlink(missing_ok=True)
    if layout != "nixos":  # where the firmware is, only the kernel says there
        Path(config.sys_root, "module/firmware_class/parameters/path").write_text("\n")
    assert found(config) == expected(layout)


def test_a_driver_container_is_found_without_configuration(tmp_path, monkeypatch):
    """At /run/nvidia/driver, where the host itself has no driver files."""
    config, root = host(tmp_path, "driver-container")
    monkeypatch.setattr(discovery, "_DRIVER_CONTAINER", str(root))
    plain = config.replace(driver_root="/")
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a driver")
    inventory = discovery.discover(plain).inventory
    assert {library.host_path.startswith(str(root)) for library in inventory.libraries} == {True}


def test_the_documentation_has_the_same_table():
    text = (ROOT / "docs/platforms.md").read_text()
    for layout, row in TABLE.items():
        (line,) = [line for line in text.split("\n") if line.startswith("|") and f"`{layout}`" in line.split("|")[1]]
        directory = os.path.dirname(row["libcuda"]).replace("{triplet}", "x86_64-linux-gnu")
        assert directory.partition("0123")[0].partition("580")[0] in line, layout


def test_x_modules_of_debians_branches_are_found_behind_their_links(tmp_path):
    config, root = host(tmp_path, "debian-tesla")
    inventory = snapshot.load(config, refresh=True)
    paths = {file.container_path.replace(VERSION, "V"): file.host_path for file in inventory.files}
    assert paths["/usr/lib/nvidia/tesla-535/nvidia_drv.so"] == f"{root}/usr/lib/nvidia/tesla-535/nvidia_drv.so"
    assert "/usr/lib/nvidia/tesla-535/libglxserver_nvidia.so.V" in paths
    output_class = paths["/usr/share/X11/xorg.conf.d/nvidia-drm-outputclass.conf"]
    assert output_class == f"{root}/etc/nvidia/tesla-535/nvidia-drm-outputclass.conf"


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        ("debian", set()),
        ("opensuse", {"/usr/lib64/libGLX_nvidia.so.0"}),
        ("nixos", {"libGLX_nvidia.so.0", "libEGL_nvidia.so.0", "libnvidia-opencl.so.1", "libnvidia-egl-gbm.so.1"}),
    ],
)
def test_a_path_that_a_file_for_loaders_names_is_a_link_to_the_library(tmp_path, layout, named):
    config, _ = host(tmp_path, layout)
    links = {link.path: link.target for link in snapshot.load(config, refresh=True).links if link.to_library}
    store = os.path.dirname(TABLE["nixos"]["libcuda"])
    wanted = {name if name.startswith("/") else f"{store}/{name}" for name in named}
    assert wanted <= set(links)
    assert bool(links) == bool(named)
    assert all(os.path.basename(path) == target for path, target in links.items())
