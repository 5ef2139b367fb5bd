"""What a host without an NVIDIA driver is told: what it is, and what serves it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from oci_gpu_hook.admin.cli import main as cli
from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.devices.nvidia import other_hosts
from tests.unit.devices.nvidia import driver_trees as trees

MODPROBE = "modprobe nvidia"


def config(tmp_path) -> Config:
    return Config(
        driver_root=str(tmp_path), dev_root=str(tmp_path), proc_root=f"{tmp_path}/proc", sys_root=f"{tmp_path}/sys"
    )


def pci(tmp_path, vendor, driver="", kind="0x030200", address="0000:1b:00.0"):
    device = f"{tmp_path}/sys/bus/pci/devices/{address}"
    trees.write(f"{device}/vendor", f"{vendor}\n".encode())
    trees.write(f"{device}/class", f"{kind}\n".encode())
    if driver:
        trees.link(f"{device}/driver", f"../../../bus/pci/drivers/{driver}")


def node(tmp_path, path):
    trees.write(f"{tmp_path}{path}")


HOSTS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "habana": (
        lambda root: pci(root, "0x1da3", "habanalabs", kind="0x120000"),
        "the PCI bus has no NVIDIA GPU, only GPUs of Habana; ",
        "use a host with NVIDIA GPUs",
    ),
    "no-gpu-at-all": (
        lambda root: pci(root, "0x8086", "e1000e", kind="0x020000"),
        "and the PCI bus has no GPU; ",
        "use a host with NVIDIA GPUs",
    ),
    "amd": (
        lambda root: node(root, "/dev/kfd"),
        "the host's GPUs are AMD's (/dev/kfd); ",
        "AMD_VISIBLE_DEVICES",
    ),
    "amd-and-nvidia": (
        lambda root: (node(root, "/dev/kfd"), pci(root, "0x10de")),
        "the host has AMD GPUs (/dev/kfd), and no driver for its NVIDIA GPU at 0000:1b:00.0; ",
        "for NVIDIA's install its driver",
    ),
    "nouveau": (lambda root: pci(root, "0x10de", "nouveau"), "is driven by nouveau, which cannot run CUDA", "reboot"),
    "vfio": (lambda root: pci(root, "0x10de", "vfio-pci"), "is bound to vfio-pci", "virtual machine that has it"),
    "none": (
        lambda root: (pci(root, "0x8086"), pci(root, "0x10de", kind="0x040300", address="0000:01:00.1")),
        "the PCI bus has no NVIDIA GPU, only GPUs of Intel; ",
        "ask for Intel's by OCI_GPU_KIND=intel.com/gpu and a count, or use a host with NVIDIA GPUs",
    ),
    "hidden": (
        lambda root: (pci(root, "0x10de", "nvidia"), trees.write(f"{root}/sys/module/nvidia/version", b"580\n")),
        "the module nvidia is loaded, but ",
        "proc-root",
    ),
}


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_of_another_kind(tmp_path, host):
    prepare, is_what, serves = HOSTS[host]
    prepare(tmp_path)
    text = str(other_hosts.no_driver(config(tmp_path)))
    assert text.startswith("no NVIDIA driver is loaded: ")
    assert is_what in text
    assert serves in text
    assert MODPROBE not in text


@pytest.mark.parametrize("prepare", [lambda root: None, lambda root: pci(root, "0x10de")], ids=["unknown", "undriven"])
def test_a_host_that_only_lacks_the_module_is_told_to_load_it(tmp_path, prepare):
    prepare(tmp_path)
    assert f"load it ({MODPROBE})" in str(other_hosts.no_driver(config(tmp_path)))


def test_what_a_directory_name_or_attribute_says_is_quoted(tmp_path):
    pci(tmp_path, "0x\x1b[31m")
    assert "\x1b" not in str(other_hosts.no_driver(config(tmp_path)))


def test_plan_info_and_doctor_say_the_same(tmp_path, capsys):
    host = make(str(tmp_path / "host"), device_nodes=False)
    (tmp_path / "host/proc/driver/nvidia/version").unlink()
    node(tmp_path / "host", "/dev/dxg")
    said = []
    for command in (["info"], ["doctor", "--json"]):
        cli.main(["--config", host.config, *command])
        captured = capsys.readouterr()
        if command == ["info"]:
            said.append(captured.err)
        else:
            said += [finding["why"] for finding in json.loads(captured.out) if finding["check"] == "driver"]
    assert len(said) == 2
    assert all("this is WSL 2 (/dev/dxg), and no driver store below " in text for text in said)
