"""AMD's and Intel's GPUs in the commands for people, on simulated hosts without nodes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from oci_gpu_hook.admin.cli.main import main
from oci_gpu_hook.admin.doctor import checkup, driver, other_vendors
from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, OK, WARNING, Host
from oci_gpu_hook.admin.simulate.host import make, upgrade
from oci_gpu_hook.base.config.toml import parse
from oci_gpu_hook.base.errors import DriverError, InvalidInput
from oci_gpu_hook.devices.cdi.spec_files import reading
from tests.paths import SCHEMAS

TROUBLE = DriverError("no NVIDIA driver is loaded", "why", "remedy")


@pytest.fixture
def host(tmp_path):
    """Return the configuration file of a simulated host."""

    def simulated(*platforms, **settings):
        made = make(f"{tmp_path}/host", platforms=platforms, device_nodes=False, **settings)
        return Path(made.config)

    return simulated


def findings(config, check, more="", trouble=None):
    looked_at = Host(config=parse(config.read_text() + more), config_path=str(config), trouble=trouble)
    return [(found.severity, found.what) for found in check(looked_at)]


def test_a_host_of_amds_lacks_no_driver_of_nvidias(host):
    config = host("amd")
    assert findings(config, driver.check, trouble=TROUBLE) == [
        (OK, "no NVIDIA driver, and no NVIDIA GPU; the host has amd.com/gpu")
    ]


def test_nodes_that_are_missing_are_told(host):
    found = findings(host("amd"), other_vendors.check)
    assert [severity for severity, _what in found] == [ERROR, ERROR]
    assert "amd.com/gpu=0: the host lacks a node of it" in found[0][1]
    assert found[1] == (ERROR, "the host has no /dev/kfd")


@pytest.mark.parametrize(("platform", "nodes"), [("amd", ["/dev/kfd", "renderD128"]), ("intel", ["renderD128"])])
@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666])
def test_who_may_open_the_nodes_is_told(host, platform, nodes, mode):
    config = host(platform)
    for name in ("kfd", "dri/card1", "dri/renderD128"):
        node = config.parent / "dev" / name
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch()
        node.chmod(mode)
    looked_at = Host(config=parse(config.read_text()), config_path=str(config))
    told = [found for found in other_vendors.check(looked_at) if " may open " in found.what]
    assert [found.severity for found in told] == ([] if mode == 0o666 else [NOTE])
    for found in told:
        assert all(name in found.what for name in nodes)
        assert ("(mode 0660)" in found.what) == (mode == 0o660)
        assert "udev rule" in found.remedy
        assert "NVreg" not in found.remedy


def test_a_gpu_that_kfd_does_not_have_is_told(host):
    config = host("amd")
    topology = config.parent / "sys/class/kfd/kfd/topology/nodes/2/properties"
    topology.unlink()
    ((severity, what),) = findings(config, other_vendors.check)
    assert (severity, what) == (
        WARNING,
        "the AMD GPU at 0010:05:00.0 does not compute: KFD (/dev/kfd) lists none",
    )


def test_a_mixed_host_without_a_default_kind_is_told(host):
    config = host("nvidia", "amd")
    what = "this host has GPUs of nvidia.com/gpu, amd.com/gpu, and [allocation] default-kind is not set"
    assert (WARNING, what) in findings(config, other_vendors.check)
    said = '\n[allocation]\ndefault-kind = "amd.com/gpu"\n'
    assert (OK, "counts without a kind mean amd.com/gpu") in findings(config, other_vendors.check, said)


def test_a_default_kind_that_the_host_does_not_have_is_told(host):
    config = host("amd")
    said = '\n[allocation]\ndefault-kind = "nvidia.com/gpu"\n'
    what = "[allocation] default-kind is nvidia.com/gpu, and this host has GPUs of amd.com/gpu only"
    assert (WARNING, what) in findings(config, other_vendors.check, said)


def test_gpus_says_which_devices_it_does_not_show(host, capsys):
    config = host("nvidia", "amd", "intel")
    assert main(["--config", str(config), "gpus"]) == 0
    told = "oci-gpu: note: devices of amd.com/gpu, intel.com/gpu have no such states; see `oci-gpu leases`\n"
    assert capsys.readouterr().err == told
    assert main(["--config", str(config), "gpus", "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_info_shows_what_the_kernel_tells(host, capsys):
    config = host("amd", "intel", partitions=2)
    capsys.readouterr()
    assert main(["--config", str(config), "info", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, json.loads((SCHEMAS / "info.schema.json").read_text()))
    shown = [(device["kind"], device["product"], device["memory"]) for device in document["devices"]]
    assert shown == [
        ("amd.com/gpu", "gfx942", 96 << 30),
        ("amd.com/gpu", "gfx942", 96 << 30),
        ("intel.com/gpu", "Data Center GPU Flex 170", 16 << 30),
    ]


@pytest.mark.parametrize(("names", "expected"), [("index", 3), ("both", 9), ("uuid", 7)])
def test_a_specification_of_what_the_kernel_tells(host, tmp_path, capsys, names, expected):
    config = host("amd", partitions=2)
    path = tmp_path / "amd.yaml"
    command = ["--config", str(config), "cdi", "generate", "--kind", "amd.com/gpu", "--name", names]
    assert main([*command, "--output", str(path)]) == 0
    document = yaml.safe_load(path.read_text())
    found = [device["name"] for device in document["devices"]]
    assert len(found) == expected, found
    assert ("0" in found, any(name.startswith("0x") for name in found)) == (names != "uuid", names != "index")
    assert [node["path"] for node in document["containerEdits"]["deviceNodes"]] == ["/dev/kfd"]
    assert reading.parse(path.read_bytes(), is_json=False).problems == ()
    all_nodes = next(device for device in document["devices"] if device["name"] == "all")["containerEdits"][
        "deviceNodes"
    ]
    assert len(all_nodes) == 4
    assert all(node["permissions"] == "rw" for node in all_nodes)


def test_refresh_of_a_kind_writes_its_file_alone(host, tmp_path, capsys):
    config = host("amd", "intel")
    directory = tmp_path / "cdi"
    command = ["--config", str(config), "cdi", "refresh", "--kind", "intel.com/gpu", "--output", str(directory)]
    assert main(command) == 0
    assert os.listdir(directory) == ["oci-gpu-hook-intel.com-gpu.yaml"]
    capsys.readouterr()
    assert main(command) == 0
    assert "unchanged" in capsys.readouterr().out


def test_a_host_without_such_a_gpu_has_no_specification(host, capsys):
    config = host("intel")
    assert main(["--config", str(config), "cdi", "generate", "--kind", "amd.com/gpu"]) == 1
    assert "amd.com/gpu: this host has no device of that class" in capsys.readouterr().err


def test_what_a_simulated_host_was_asked_to_be_outlasts_an_upgrade(tmp_path):
    before = make(f"{tmp_path}/host", platforms=("nvidia", "amd"), partitions=4, gpus=2, device_nodes=False)
    after = upgrade(f"{tmp_path}/host", "590.48.01")
    assert after.others == before.others
    assert len(after.others) == 8
    taken = [name for device in after.others for name in device.names]
    assert len(set(taken)) == len(taken)
    assert not {name for gpu in after.gpus for name in after.numbers.drm(gpu.index)}.intersection(taken)


@pytest.mark.parametrize("settings", [{"platforms": ("amd",), "partitions": 3}, {"platforms": ("voodoo",)}])
def test_a_host_that_cannot_be_is_refused(tmp_path, settings):
    with pytest.raises(InvalidInput, match=r"partitions: 3 is not a mode|platform: 'voodoo' is not known"):
        make(f"{tmp_path}/host", device_nodes=False, **settings)


def test_top_shows_what_the_kernel_tells(host, capsys):
    config = host("amd", "intel")
    main(["--config", str(config), "top", "--once"])
    shown = capsys.readouterr().out
    assert "amd.com/gpu=0" in shown
    assert "intel.com/gpu=0" in shown


def test_gpus_says_that_it_is_of_nvidias(host, capsys):
    assert main(["--config", str(host("amd")), "gpus"]) == 1
    said = capsys.readouterr().err
    assert "only NVIDIA's GPUs have these states, and this host has devices of amd.com/gpu" in said


@pytest.mark.parametrize("action", ["generate", "refresh"])
def test_a_host_of_other_vendors_gpus_is_told_their_kind(host, capsys, action):
    config = str(host("amd", "intel"))
    assert main(["--config", config, "cdi", action]) == 1
    assert "name the kind of its other GPUs: --kind amd.com/gpu or intel.com/gpu" in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["AMD_VISIBLE_DEVICES=0", "OCI_GPU_DEVICES=amd.com/gpu=0"])
def test_a_host_without_a_vendors_gpu_names_none_to_choose_from(host, capsys, asked):
    config = host("intel")
    config.write_text(config.read_text() + f'\n[cdi]\nspec-dirs = ["{config.parent}/none"]\n')
    assert main(["--config", str(config), "plan", "--env", asked]) == 1
    said = " ".join("".join(capsys.readouterr()).split())
    assert "load the driver, start the container on a host with such a GPU, or write the specification" in said
    assert "name one of these" not in said


def test_what_a_tegras_csv_files_name_in_vain_is_said_to_concern_every_container(host):
    looked_at = checkup.host(str(host("tegra")))
    (found,) = [found for found in driver.check(looked_at) if "the CSV files name" in found.what]
    assert found.why == "containers get their GPUs without it; only those that ask for csv-mounts are warned"
