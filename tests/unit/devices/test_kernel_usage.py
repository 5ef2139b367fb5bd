"""What sysfs tells of AMD's and Intel's GPUs, and how `top` and `metrics` look on hosts without NVIDIA's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from oci_gpu_hook.admin.cli import top, top_picture
from oci_gpu_hook.admin.metering import families
from oci_gpu_hook.admin.metering.look import Lookout
from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base.config.load import load
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.use import DeviceUse
from tests.paths import ROOT

pytestmark = pytest.mark.root  # for device nodes
AMD, INTEL = "amd.com/gpu", "intel.com/gpu"
GIB = 1 << 30


def config_of(tmp_path, *platforms, **options):
    return load(make(str(tmp_path / "host"), platforms=platforms, **options).config)


def look_at(config):
    with Lookout(config) as lookout:
        return lookout.look()


def device_directory(config, name="card*"):
    (card,) = sorted(Path(config.sys_root, "class/drm").glob(name))
    return card / "device"


def test_what_amds_driver_tells(tmp_path):
    (use,) = vendors.of(AMD).used(config_of(tmp_path, "amd")).values()
    assert use == DeviceUse(
        uuid=use.uuid, utilization=0, memory_utilization=0, memory_used=297 << 20, memory_total=192 * GIB, power=131.0,
        power_limit=750.0, temperature=38,
    )  # fmt: skip


def test_what_intels_driver_tells(tmp_path):
    (use,) = vendors.of(INTEL).used(config_of(tmp_path, "intel")).values()
    assert use == DeviceUse(uuid=use.uuid, power_limit=150.0, temperature=41)


@pytest.mark.parametrize(
    ("name", "text", "field"),
    [("gpu_busy_percent", "x\n", "utilization"), ("gpu_busy_percent", "\n", "utilization"),
     ("mem_info_vram_used", "-1\n", "memory_used"), ("hwmon/hwmon2/temp1_input", "\u0663\n", "temperature")],
)  # fmt: skip
def test_what_is_no_number_is_not_known(tmp_path, name, text, field):
    config = config_of(tmp_path, "amd")
    path = device_directory(config) / name
    path.chmod(0o644)
    path.write_text(text)
    (use,) = vendors.of(AMD).used(config).values()
    assert getattr(use, field) is None


def test_figures_of_a_divided_gpu_are_of_no_part(tmp_path):
    assert vendors.of(AMD).used(config_of(tmp_path, "amd", partitions=2)) == {}


def test_without_sensors_there_is_nothing(tmp_path):
    config = config_of(tmp_path, "intel")
    for path in device_directory(config).glob("hwmon/*/*"):
        path.unlink()
    assert vendors.of(INTEL).used(config) == {}


@pytest.mark.parametrize("platforms", [("amd",), ("intel",), ("amd", "intel")])
def test_a_host_without_nvidias_gpus_has_no_word_of_them(tmp_path, platforms):
    look = look_at(config_of(tmp_path, *platforms))
    assert (look.warnings, look.nvidia) == ((), False)
    document: Any = top.to_json(look)
    jsonschema.validate(document, json.loads((ROOT / "schemas/top.schema.json").read_text()))
    assert [device["kind"].partition(".")[0] for device in document["devices"]] == list(platforms)
    assert all(device["temperature"] for device in document["devices"])
    text = top_picture.of(look, 120).plain
    assert "°C" in text
    assert "NVIDIA" not in text
    given = {family.name: family.samples for family in families.of(look, {}, 0)}
    assert [dict(labels)["source"] for _, labels, _ in given["oci_gpu_source_up"]] == ["leases"]
    assert len(given["oci_gpu_device_temperature_celsius"]) == len(platforms)


def test_the_product_of_an_amd_gpu_is_shown(tmp_path):
    assert "gfx942" in top_picture.of(look_at(config_of(tmp_path, "amd")), 120).plain


def test_beside_nvidias_both_are_shown(tmp_path):
    look = look_at(config_of(tmp_path, "nvidia", "amd"))
    nvidia, amd = look.views
    assert (nvidia.use.temperature, amd.use.temperature, look.nvidia) == (35, 38, True)


def test_a_host_of_nvidias_whose_driver_is_not_loaded_is_told(tmp_path):
    config = config_of(tmp_path, "nvidia", "amd")
    Path(config.proc_root, "driver/nvidia/version").unlink()
    look = look_at(config)
    assert len(look.warnings) == 1
    assert "no NVIDIA driver is loaded" in look.warnings[0]
