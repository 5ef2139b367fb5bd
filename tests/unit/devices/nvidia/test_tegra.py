"""Tegra: the CSV files, line by line; what they name, and what is a GPU's of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base import limits
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices.nvidia import csv_files, platforms, snapshot, tegra, tegra_files
from oci_gpu_hook.devices.nvidia.csv_files import Entry
from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
from tests.unit.devices.nvidia import driver_trees as trees

CSV = "etc/nvidia-container-runtime/host-files-for-container.d"
LIBRARIES = "usr/lib/aarch64-linux-gnu/nvidia"


def read(root, **files: str | bytes):
    for name, text in files.items():
        trees.write(f"{root}/{CSV}/{name}.csv", text if isinstance(text, bytes) else text.encode())
    return csv_files.read(DriverRoot(str(root)))


# The files. Cases as nvidia-container-toolkit has them: tests/input/csv_samples.


def test_lines_may_have_blanks_around_their_words_and_be_empty(tmp_path):
    entries, wrong = read(
        tmp_path, devices="   dev   , /dev/target \nlib,      /lib/target\n\ndir,/x   \n  \nsym, /y\n"
    )
    assert [(entry.kind, entry.path) for entry in entries] == [
        ("dev", "/dev/target"), ("lib", "/lib/target"), ("dir", "/x"), ("sym", "/y"),
    ]  # fmt: skip
    assert wrong == ()


@pytest.mark.parametrize(
    "line",
    ["dir", "dir,", "file, /x", "dev /dev/x", ", /x", "lib, /x\0y", "dir, /", "dir, //", "dir, /x/..", "dir, /dev/"],
)
def test_another_line_is_passed_over_and_told_with_its_number(tmp_path, line):
    entries, wrong = read(tmp_path, drivers=f"lib, /a\n{line}\nlib, /b\n")
    assert [entry.path for entry in entries] == ["/a", "/b"]
    (text,) = wrong
    assert text.startswith("the CSV files of this Tegra: 'drivers.csv:2' is not a line `dev|dir|lib|sym, PATH`: ")


def test_relative_paths_begin_in_dev_or_at_the_root(tmp_path):
    entries, _ = read(tmp_path, l4t="dev, nvhost-gpu\nlib, lib/target")
    assert [entry.path for entry in entries] == ["/dev/nvhost-gpu", "/lib/target"]


def test_only_three_files_are_for_every_container(tmp_path):
    entries, _ = read(tmp_path, cudnn="lib, /cudnn", l4t="lib, /l4t", drivers="lib, /drivers", devices="dev, /dev/a")
    assert {entry.path: entry.base for entry in entries} == {
        "/cudnn": False, "/l4t": True, "/drivers": True, "/dev/a": True,
    }  # fmt: skip


def test_an_entry_of_two_files_is_for_every_container_if_one_file_is(tmp_path):
    entries, _ = read(tmp_path, a="lib, /x", drivers="lib, /x")
    assert [entry.base for entry in entries] == [True]


def test_other_names_are_no_csv_files(tmp_path):
    for name in ("other.not_csv", ".csv", "drivers.csv.bak"):
        trees.write(f"{tmp_path}/{CSV}/{name}", b"lib, /x\n")
    assert read(tmp_path) == ((), ())


def test_files_have_limits(tmp_path):
    over = r"'/etc/.*/drivers.csv': and those before it have more than 1048576 bytes or 16384 lines"
    with pytest.raises(DriverError, match=over):
        read(tmp_path / "large", devices=b"#" * (limits.CSV_BYTES - 8), drivers=b"#" * 9)
    lines = "".join(f"lib, /{number}\n" for number in range(limits.CSV_LINES))
    with pytest.raises(DriverError, match=over):
        read(tmp_path / "long", devices="\n", drivers=lines)
    assert len(read(tmp_path / "wrong", drivers="x\n" * limits.CSV_LINES)[1]) < 10
    with pytest.raises(DriverError, match="has more than 64 files"):
        read(tmp_path / "many", **{f"a{number}": "" for number in range(limits.CSV_FILES + 1)})


# What they name.


def entry(kind, path, *, base=True):
    return Entry(kind=kind, path=path, place="drivers.csv:1", base=base)


def found(root, *entries):
    return tegra_files.find(DriverRoot(str(root)), entries, f"{root}/devices")


def test_a_link_is_followed_and_every_link_on_its_way_is_made(tmp_path, monkeypatch):
    trees.machine(monkeypatch, "aarch64")
    trees.library(tmp_path / LIBRARIES / "liba.so.1.0", "liba.so.1", "aarch64")
    trees.link(tmp_path / "usr/lib/liba.so", "/etc/alternatives/liba")
    trees.link(tmp_path / "etc/alternatives/liba", f"/{LIBRARIES}/liba.so.1.0")
    result = found(tmp_path, entry("sym", "/usr/lib/liba.so"))
    assert {link.path: link.target for link in result.links} == {
        "/usr/lib/liba.so": "/etc/alternatives/liba", "/etc/alternatives/liba": f"/{LIBRARIES}/liba.so.1.0",
    }  # fmt: skip
    (library,) = result.libraries
    assert (library.directory, library.links) == (f"/{LIBRARIES}", (("liba.so.1", "liba.so.1.0"),))


def test_a_development_link_of_the_host_is_one_in_the_container(tmp_path, monkeypatch):
    """nvidia-container-toolkit, internal/discover/symlinks.go, getDotSoSymlinks."""
    trees.machine(monkeypatch, "aarch64")
    for name in ("liba", "libb", "libc"):
        trees.library(tmp_path / LIBRARIES / f"{name}.so.1", f"{name}.so.1", "aarch64")
    trees.link(tmp_path / LIBRARIES / "liba.so", "liba.so.1")
    trees.write(f"{tmp_path}/{LIBRARIES}/libb.so", b"no link")
    result = found(tmp_path, *(entry("lib", f"/{LIBRARIES}/{name}.so.1") for name in ("liba", "libb", "libc")))
    assert [library.links for library in result.libraries] == [(("liba.so", "liba.so.1"),), (), ()]


def test_links_in_a_circle_or_to_nothing_are_missing(tmp_path):
    trees.link(tmp_path / "a", "b")
    trees.link(tmp_path / "b", "a")
    trees.link(tmp_path / "c", "/nothing")
    result = found(tmp_path, entry("sym", "/a"), entry("sym", "/c"), entry("lib", "/d"), entry("dir", "/e"))
    assert [missing.path for missing in result.missing] == ["/a", "/c", "/d", "/e"]
    assert result.links == ()


def test_libraries_get_the_links_of_ldconfig_and_of_nvidias_toolkit(tmp_path, monkeypatch):
    trees.machine(monkeypatch, "aarch64")
    for name, soname in (("libcuda.so.1.1", "libcuda.so.1"), ("libGLX_nvidia.so.540.3.0", "libGLX_nvidia.so.0")):
        trees.library(tmp_path / LIBRARIES / name, soname, "aarch64")
    result = found(tmp_path, *(entry("lib", f"/{LIBRARIES}/{name}") for name in os.listdir(tmp_path / LIBRARIES)))
    assert {library.name: library.links for library in result.libraries} == {
        "libcuda.so.1.1": (("libcuda.so.1", "libcuda.so.1.1"), ("libcuda.so", "libcuda.so.1")),
        "libGLX_nvidia.so.540.3.0": (
            ("libGLX_nvidia.so.0", "libGLX_nvidia.so.540.3.0"),
            ("libGLX_indirect.so.0", "libGLX_nvidia.so.540.3.0"),
        ),
    }


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [("/d/card*", ["/d/card0", "/d/card1"]), ("/d/*1", ["/d/card1"]), ("/d/render*", []), ("/no/*", []),
     ("/d/*", ["/d/card0", "/d/card1", "/d/x*"]), ("/*/card0", []), ("/d/card0*0", []), ("/d/c*r*", [])],
)  # fmt: skip
def test_patterns(tmp_path, pattern, matches):
    for name in ("card0", "card1", "x*"):
        trees.write(f"{tmp_path}/d/{name}")
    assert tegra_files.expanded(str(tmp_path), pattern) == matches


def test_a_pattern_finds_what_it_matches_in_a_directory_of_many_other_names(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CSV_NAMES", 2)
    for name in ("a0", "a1", "a2", "z0", "z1"):
        trees.write(f"{tmp_path}/d/{name}")
    assert tegra_files.expanded(str(tmp_path), "/d/z*") == ["/d/z0", "/d/z1"]
    with pytest.raises(DriverError, match=r"'/d/a\*': matches more than 2 names"):
        tegra_files.expanded(str(tmp_path), "/d/a*")


# The host.


def made(tmp_path, *more_platforms):
    host = make(str(tmp_path / "host"), platforms=("tegra", *more_platforms), device_nodes=False)
    return configs.load(host.config), Path(host.driver_root)


def test_a_tegra_without_csv_files_is_told_which_package_has_them(tmp_path):
    config, root = made(tmp_path)
    for path in (root / CSV).iterdir():
        path.unlink()
    with pytest.raises(DriverError, match=r"is a Jetson .* has no CSV file .* install nvidia-l4t-init"):
        snapshot.load(config)


@pytest.mark.parametrize("sign", ["etc/nv_tegra_release", "dev/nvmap", "dev/nvgpu/igpu0/ctrl", "family", "tree", ""])
def test_how_a_tegra_is_known(tmp_path, sign):
    config = trees.config(tmp_path, dev_root=str(tmp_path / "driver"))
    if sign == "family":
        trees.write(f"{config.sys_root}/devices/soc0/family", b"Tegra\n")
    elif sign == "tree":
        trees.write(f"{config.sys_root}/firmware/devicetree/base/compatible", b"nvidia,p3768\0nvidia,tegra234\0")
    elif sign:
        trees.write(f"{config.driver_root}/{sign}")
    assert platforms.is_tegra(config) == bool(sign)


def test_what_is_missing_is_told_once_and_only_to_those_who_ask_for_all(tmp_path):
    config, _ = made(tmp_path)
    found = snapshot.load(config)
    ((capabilities, text),) = found.lacking
    assert capabilities == ("csv-mounts",)
    assert "'/usr/lib/aarch64-linux-gnu/libnvsample_cudaprocess.so' (drivers.csv:" in text
    assert found.warnings == ()


def test_a_tegra_with_nothing_but_cards_is_a_host_with_cards(tmp_path):
    """IGX with its card chosen: NVIDIA's driver alone, and no GPU of the chip's."""
    config, _ = made(tmp_path, "nvidia")
    gpus = Path(config.proc_root, "driver/nvidia/gpus")
    (gpus / "0000:01:00.0/information").unlink()
    for path in sorted(gpus.glob("0000:01:00.0/*")):
        path.unlink()
    (gpus / "0000:01:00.0").rmdir()
    text = Path(config.proc_root, "driver/nvidia/version").read_text()
    assert tegra.discover(config, text) is None


def test_a_gpu_without_any_node_is_one_with_a_fault(tmp_path):
    config, _ = made(tmp_path)
    (gpu,) = snapshot.load(config).gpus
    assert gpu.fault == "the host has none of the device nodes that its CSV files name"


def test_thors_gpus_are_its_own_then_its_card(tmp_path):
    config, _ = made(tmp_path, "nvidia")
    found = snapshot.load(config)
    assert [(gpu.index, gpu.name, gpu.bus_id) for gpu in found.gpus] == [
        (0, "NVIDIA Thor", "00000000:01:00.0"), (1, "NVIDIA H100 80GB HBM3", "00000000:1b:00.0"),
    ]  # fmt: skip


@pytest.mark.root
def test_no_node_of_a_card_is_the_chips(tmp_path):
    """The CSV files name all of /dev/dri; with two cards /dev/nvidia2 is one of them, and no display."""
    host = make(str(tmp_path / "host"), platforms=("tegra", "nvidia"), gpus=2)
    chip, *cards = snapshot.load(configs.load(host.config)).gpus
    own = [
        {node for node in card.nodes if node.startswith(("/dev/dri/", f"/dev/nvidia{card.minor}"))} for card in cards
    ]
    assert [len(nodes) for nodes in own] == [3, 3]
    assert not own[0] & own[1]
    assert not set(chip.nodes) & (own[0] | own[1])
    assert not {node for node in cards[0].nodes if node in own[1]}
    assert "/dev/nvidia0" in chip.nodes
    assert "/dev/nvmap" in set(chip.nodes) & set(cards[0].nodes) & set(cards[1].nodes)
