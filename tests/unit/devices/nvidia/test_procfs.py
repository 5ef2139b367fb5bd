"""What the kernel driver writes into /proc, and what is made of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices import pci
from oci_gpu_hook.devices.nvidia import procfs
from oci_gpu_hook.devices.nvidia.model import pci_address
from tests.paths import DATA
from tests.unit.devices.nvidia import driver_trees as trees

with open(DATA / "inventory_cases.json") as file:
    CASES = json.load(file)


def cases(kind):
    return [pytest.param(case["input"], case["expected"], id=case["id"]) for case in CASES if case["kind"] == kind]


@pytest.mark.parametrize(("given", "expected"), cases("mig_minors_line"))
def test_mig_minors_line(given, expected):
    if expected.get("error"):
        with pytest.raises(ValueError, match="not a line of mig-minors"):
            procfs.mig_minors_line(given["line"])
    else:
        assert procfs.mig_minors_line(given["line"]) == (expected["cap"], expected["minor"])


@pytest.mark.parametrize(("given", "expected"), cases("mig_minors_file"))
def test_mig_minors_file(given, expected):
    assert procfs.mig_minors("\n".join(given["lines"])) == expected["caps"]


@pytest.mark.parametrize(("given", "expected"), cases("mig_cap_proc_path"))
def test_mig_capability_path(given, expected):
    assert procfs.mig_capability_path(given["cap"]) == expected["path"]


@pytest.mark.parametrize(("given", "expected"), cases("params_file"))
def test_params(given, expected):
    assert procfs.params_for_containers(given["contents"]) == expected["modified_contents"]


@pytest.mark.parametrize(
    "capability",
    ["", "config/access", "gpu0", "gpu0/access", "gpu0/gi1", "gpux/gi1/access", "gpu0/gi/access", "gpu0/ci1/access",
     "gpu0/gi1/ci1/ci1/access", "../../etc/passwd", "gpu0/gi1/../access", "GPU0/gi1/access"],
)  # fmt: skip
def test_what_is_no_mig_capability(capability):
    with pytest.raises(ValueError, match="not a MIG capability"):
        procfs.mig_capability_path(capability)


@given(st.text())
def test_mig_minors_take_any_text(text):
    assert all(type(minor) is int for minor in procfs.mig_minors(text).values())


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.127.05  Tue Oct  8 16:30:26 UTC 2024", "550.127.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (b@U22)", "580.159.04"),
        ("NVRM version: NVIDIA UNIX aarch64 Kernel Module  580.95  Tue", "580.95"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  610.43.02", "610.43.02"),
    ],
)
def test_driver_version(line, version):
    assert procfs.driver_version(f"{line}\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n") == version


@pytest.mark.parametrize(
    "text",
    ["", "\n", "NVRM version:", "NVRM version: NVIDIA UNIX x86_64 Kernel Module", "GCC version:  gcc version 12.2.0",
     "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  TempVersion  Release Build", "\0" * 9000],
)  # fmt: skip
def test_no_driver_version(text):
    with pytest.raises(DriverError, match="names no version"):
        procfs.driver_version(text)


def test_gpus_come_in_the_order_of_the_bus(tmp_path):
    trees.proc(tmp_path, gpus=12)
    found = procfs.gpus(str(tmp_path))
    assert [gpu.minor for gpu in found] == list(range(12))
    assert found[0] == procfs.GpuInformation(
        proc_name="0000:01:00.0",
        bus_id="00000000:01:00.0",
        minor=0,
        uuid="GPU-00000000-1111-2222-3333-444444444444",
        name="NVIDIA H100",
    )


def test_a_gpu_of_a_higher_domain_comes_last(tmp_path):
    base = tmp_path / "driver/nvidia/gpus"
    for name in ("10000:01:00.0", "000a:01:00.0", "0000:C1:00.0"):
        trees.write(str(base / name / "information"), b"Model: x\n")
    ids = [gpu.bus_id for gpu in procfs.gpus(str(tmp_path))]
    assert ids == [
        "00000000:c1:00.0",
        "0000000a:01:00.0",
        "00010000:01:00.0",
    ]


def test_a_gpu_that_is_not_initialised_has_no_uuid(tmp_path):
    trees.proc(tmp_path, gpus=2, unknown=(1,))
    assert [gpu.uuid for gpu in procfs.gpus(str(tmp_path))] == [trees.uuid_of(0), ""]


def test_an_excluded_gpu_is_not_there_and_takes_no_index(tmp_path):
    trees.proc(tmp_path, gpus=3, excluded=(1,))
    assert [gpu.minor for gpu in procfs.gpus(str(tmp_path))] == [0, 2]


def test_a_gpu_of_an_old_driver_has_no_minor():
    gpu = procfs.gpu_information("0000:04:00.0", "Model:           GeForce GTX 650\nBus Location:    0000:04:00.0\n")
    assert gpu
    assert (gpu.minor, gpu.name, gpu.uuid) == (-1, "GeForce GTX 650", "")


def test_no_gpus(tmp_path):
    assert procfs.gpus(str(tmp_path)) == ()


def test_device_major():
    text = "Character devices:\n195 nvidia-frontend\n234 nvidia-caps\n\nBlock devices:\n  8 nvidia-caps\n259 blkext\n"
    assert procfs.device_major(text, "nvidia-caps") == 234
    assert procfs.device_major(text, "blkext") == 0
    assert procfs.device_major(text, "nvidia") == 0


def test_files_for_containers(tmp_path):
    trees.proc(tmp_path)
    files = dict(procfs.files_for_containers(str(tmp_path)))
    assert list(files) == ["params", "registry", "version"]
    assert "\nModifyDeviceFiles: 0\n" in files["params"]
    assert files["version"] == trees.VERSION_TEXT.format("580.95.05")


def test_place_of_a_gpu(tmp_path):
    real = tmp_path / "devices/pci0000:15/0000:15:01.0/0000:16:00.0/0000:17:02.0/0000:18:00.0"
    (real / "drm/card1/card1-DP-1").mkdir(parents=True)
    (real / "drm/renderD128").mkdir()
    (real / "numa_node").write_text("1\n")
    trees.link(str(tmp_path / "bus/pci/devices/0000:18:00.0"), str(real))
    place = pci.place(str(tmp_path), pci_address("00000000:18:00.0"))
    assert place == pci.Place(numa_node=1, pcie_switch="0000:16:00.0", drm=("card1", "renderD128"))


def test_place_of_a_gpu_on_a_root_port(tmp_path):
    real = tmp_path / "devices/pci0000:00/0000:00:01.0/0000:01:00.0"
    real.mkdir(parents=True)
    (real / "numa_node").write_text("-1\n")
    trees.link(str(tmp_path / "bus/pci/devices/0000:01:00.0"), str(real))
    assert pci.place(str(tmp_path), pci_address("00000000:01:00.0")) == pci.Place()


def test_place_where_sysfs_does_not_tell(tmp_path):
    assert pci.place(str(tmp_path), pci_address("00000000:01:00.0")) == pci.Place()


@pytest.mark.parametrize(
    ("bus_id", "address"),
    [("00000000:1b:00.0", "0000:1b:00.0"), ("00000001:00:00.0", "0001:00:00.0"), ("00010000:01:00.0", "10000:01:00.0")],
)
def test_the_address_that_sysfs_has(bus_id, address):
    """A domain behind a bridge of Intel's VMD or a hypervisor's has five digits and more, and no zeros before them."""
    assert pci_address(bus_id) == address
