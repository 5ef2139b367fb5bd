"""What commands for people show of each platform: names, memory, and no columns that mean nothing there."""

from __future__ import annotations

import json

import pytest

from tests.runtime.fixtures import oci_gpu

PRODUCTS = {"amd": "gfx942", "intel": "Data Center GPU Flex 170"}
ASKED = {"amd": "AMD_VISIBLE_DEVICES=0", "intel": "OCI_GPU_DEVICES=intel.com/gpu=0"}


@pytest.fixture(scope="module")
def shown(machine):
    """Return a function that runs a command on a host of a platform, which it makes at the first call."""

    def run(platform: str, *words: str) -> str:
        directory = machine.work / f"shown-{platform.replace(',', '-')}"
        if not directory.exists():
            oci_gpu("simulate", directory, "--platform", platform, "--gpus", "1")
        return oci_gpu("--config", directory / "config.toml", *words)

    return run


@pytest.mark.parametrize("platform", PRODUCTS)
def test_a_device_of_another_vendor_is_told_by_product_and_memory(shown, platform):
    product, kind = PRODUCTS[platform], f"{platform}.com/gpu"
    row = next(line for line in shown(platform, "leases").split("\n") if f"{kind}=0" in line)
    assert product in row
    assert "GiB" in row
    said = shown(platform, "plan", "--env", ASKED[platform])
    assert f"{kind}=0  {product}" in said
    variable, _, value = ASKED[platform].partition("=")
    assert f"process.env: {variable}='{value}'" in said
    assert shown(platform, "info").startswith("DEVICE")
    assert product in shown(platform, "top", "--once")


@pytest.mark.parametrize("platform", PRODUCTS)
def test_a_count_without_a_kind_is_planned_of_what_there_is(shown, platform):
    assert f"{platform}.com/gpu=0  {PRODUCTS[platform]}" in shown(platform, "plan", "--count", "1")


def test_a_plan_of_two_vendors_shows_both(shown):
    both = ("--env", "AMD_VISIBLE_DEVICES=0", "--env", "NVIDIA_VISIBLE_DEVICES=0")
    for asked in (
        both,
        ("--devices", "amd.com/gpu=0,nvidia.com/gpu=0"),
        ("--devices", "nvidia.com/gpu=0,amd.com/gpu=0"),
    ):
        said = shown("nvidia,amd", "plan", *asked)
        assert "amd.com/gpu=0  gfx942" in said
        assert "GPU 0  NVIDIA H100" in said
        assert "/dev/nvidia0" in said


@pytest.mark.parametrize("platform", ["wsl2", "tegra"])
def test_a_gpu_on_no_bus_has_neither_modes_nor_a_place(shown, platform):
    said = shown(platform, "info")
    assert "NUMA ?" not in said
    assert "persist" not in said
    assert json.loads(shown(platform, "info", "--json"))["gpus"][0]["numaNode"] is None


def test_a_section_with_nothing_in_it_is_left_out(shown):
    asked = ("plan", "--env", "NVIDIA_VISIBLE_DEVICES=all")
    assert "Not given" not in shown("wsl2", *asked)
    assert "Not given" in shown("tegra", *asked)


@pytest.mark.parametrize("platform", ["nvidia", "wsl2", "tegra"])
def test_nvidias_kind_may_be_named(shown, platform):
    command = ("cdi", "generate", "--hook-path", "/hook")
    named = shown(platform, *command, "--kind", "nvidia.com/gpu")
    assert named == shown(platform, *command)
    assert "nvidia.com/gpu" in named
