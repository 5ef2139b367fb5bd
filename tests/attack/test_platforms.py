"""What hostile images say of AMD's GPUs, and what a Tegra's files and WSL's driver store must not make of a host."""

from __future__ import annotations

import os
import time

import pytest

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import DriverError, HookError, InvalidInput
from oci_gpu_hook.devices.nvidia import csv_files, libraries, tegra_files, wsl
from oci_gpu_hook.devices.nvidia.csv_files import Entry
from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
from oci_gpu_hook.request.parse import read
from tests.attack.conftest import Tally
from tests.unit.devices.nvidia import driver_trees as trees
from tests.unit.request.texts import container

SECONDS = 1.0
MANY = limits.LISTED - 1
NOBODY = 65534


def quickly(tally: Tally, work):
    """Return what the work returns, or the error that refuses it; it must not take long."""
    tally.tried += 1
    began = time.process_time()
    try:
        found = work()
    except HookError as error:
        tally.refused += 1
        found = error
    assert time.process_time() - began < SECONDS
    return found


@pytest.mark.parametrize(
    "value",
    [
        "0-99999999999", "0-999999999", "999999999-0", "0-", "-", "0--1", ",".join(["0-4095"] * MANY),
        ",".join(f"{number}-{number + 4000}" for number in range(MANY)), "0," * limits.LISTED, "9" * 100_000,
        "f" * 17, "\u0663", "\u00b2", "\uff10-\uff13", "0x1:\u0663", "0000:05:00.0:" + "1" * 100_000,
        "0000:05:00.0:x", "GPU-" * 1000, "amd.com/gpu=" * 1000, "amd.com/gpu=0-99999999", "0\n1", "../../dev/mem", "*",
    ],
)  # fmt: skip
def test_a_list_that_means_no_devices_is_refused_at_once(tally, value):
    found = quickly(tally, lambda: read(container([f"AMD_VISIBLE_DEVICES={value}"]), Config()))
    assert isinstance(found, InvalidInput), found
    assert len(str(found)) < 1000


@pytest.mark.parametrize(
    ("value", "devices"),
    [
        (f"0-{MANY}", limits.LISTED),
        (",".join(str(number) for number in range(MANY)), MANY),
        (",".join(["0xEF2C1799A1F3E2ED", "ef2c1799a1f3e2ed", "GPU-ef2c1799a1f3e2ed"] * 1000), 1),
        ("0,00,00000000,0-0,amd.com/gpu=0", 1),
        ("all,0-99999999999", 1),
    ],
)
def test_a_long_list_is_read_at_once_and_names_each_device_once(tally, value, devices):
    request = quickly(tally, lambda: read(container([f"AMD_VISIBLE_DEVICES={value}"]), Config())).request
    assert len(request.devices) == devices


@pytest.mark.parametrize(
    "value", ["csv-mounts=all,", "csv-mounts=ALL", " csv-mounts=all", "csv-mounts=all\0", "all", "*"]
)
def test_only_the_word_asks_for_every_file_of_a_tegra(tally, value):
    env = ["NVIDIA_VISIBLE_DEVICES=all", f"NVIDIA_REQUIRE_JETPACK={value}"]
    found = quickly(tally, lambda: read(container(env), Config()))
    assert isinstance(found, InvalidInput) or "csv-mounts" not in found.request.features


def csv_of(tmp_path, **files: str) -> DriverRoot:
    for name, text in files.items():
        trees.write(f"{tmp_path}{csv_files.DIRECTORY}/{name}.csv", text.encode())
    return DriverRoot(str(tmp_path))


@pytest.mark.parametrize("change", ["mode", "group", "owner"])
def test_csv_files_that_others_can_write_give_nothing(tally, tmp_path, change):
    if os.geteuid():
        pytest.skip("needs root")
    root = csv_of(tmp_path, devices="dev, /dev/mem\n", drivers="lib, /etc/shadow\n")
    path = f"{tmp_path}{csv_files.DIRECTORY}/devices.csv"
    if change == "owner":
        os.chown(path, NOBODY, 0)
    else:
        os.chmod(path, 0o646 if change == "mode" else 0o664)
    entries, wrong = quickly(tally, lambda: csv_files.read(root))
    assert [entry.path for entry in entries] == ["/etc/shadow"]
    assert "'devices.csv' is not used: users other than root" in wrong[0]


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_directory_into_which_others_can_put_csv_files_is_refused(tally, tmp_path, mode):
    root = csv_of(tmp_path, devices="dev, /dev/null\n")
    os.chmod(f"{tmp_path}{csv_files.DIRECTORY}", mode)
    found = quickly(tally, lambda: csv_files.read(root))
    assert isinstance(found, DriverError)
    assert "users other than root" in str(found)
    assert "remove the write permission of others" in str(found)


def test_a_csv_file_that_is_none_keeps_nobody_waiting(tally, tmp_path):
    root = csv_of(tmp_path, drivers="lib, /x\n")
    directory = f"{tmp_path}{csv_files.DIRECTORY}"
    os.mkfifo(f"{directory}/pipe.csv")
    os.mkdir(f"{directory}/directory.csv")
    os.symlink("nowhere", f"{directory}/dangling.csv")
    os.symlink("loop.csv", f"{directory}/loop.csv")
    entries, wrong = quickly(tally, lambda: csv_files.read(root))
    assert [entry.path for entry in entries] == ["/x"]
    assert len(wrong) == 4


def entry(kind: str, path: str) -> Entry:
    return Entry(kind=kind, path=path, place="drivers.csv:1", base=True)


def test_links_of_a_driver_root_lead_nowhere_else(tally, tmp_path):
    """Absolute links and `..` begin at the root, in the middle of a path, too."""
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    trees.write(f"{outside}/secret", b"secret")
    os.symlink("/", f"{outside}/link")
    root.mkdir()
    for name, target in (("absolute", str(outside)), ("up", "../../../../outside"), ("deep", f"{root}/../outside")):
        os.symlink(target, root / name)
    os.symlink("self", root / "self")
    entries = [entry(kind, f"/{name}/{file}")
               for kind in ("lib", "sym", "dir")
               for name in ("absolute", "up", "deep", "self")
               for file in ("secret", "link", "s*")]  # fmt: skip
    found = quickly(tally, lambda: tegra_files.find(DriverRoot(str(root)), entries, f"{root}/devices"))
    assert (found.libraries, found.files, found.links) == ((), (), ())
    assert len(found.missing) == len(entries)


def test_a_link_in_wsls_driver_store_gives_no_file_of_the_host(tally, tmp_path, monkeypatch):
    trees.machine(monkeypatch)
    store = tmp_path / wsl.STORES.lstrip("/") / "nv_dispi.inf_amd64_0000000000000000"
    trees.library(store / "libcuda.so.1.1", "libcuda.so.1")
    trees.write(f"{tmp_path}/etc/shadow", b"secret")
    for name in ("nvcubins.bin", "nvidia-smi", "nvngx.dll", "libsecret.so"):
        os.symlink("/etc/shadow", store / name)
    os.mkfifo(store / "libpipe.so")
    config = Config(driver_root=str(tmp_path), dev_root=str(tmp_path))
    inventory = quickly(tally, lambda: wsl.discover(config)).inventory
    assert [library.name for library in inventory.libraries] == ["libcuda.so.1.1"]
    assert inventory.files == ()


def test_a_library_that_is_a_pipe_or_enormous_is_none(tally, tmp_path):
    os.mkfifo(tmp_path / "libcuda.so.1")
    with open(tmp_path / "huge.so", "wb") as file:
        file.write(b"\x7fELF")
        file.truncate(1 << 40)
    for name in ("libcuda.so.1", "huge.so"):
        assert quickly(tally, lambda name=name: libraries.image_of(str(tmp_path / name))) is None
