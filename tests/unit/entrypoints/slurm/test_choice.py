"""What Slurm's variables and cgroup.conf say; tests/slurm has the device cgroup's part under a real slurmd."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base.config.load import load
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.entrypoints.slurm import choice
from tests.runtime.fixtures import oci_gpu

pytestmark = pytest.mark.root  # for device nodes


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A host whose GPUs this process may all open, as where Slurm constrains nothing."""
    directory = tmp_path_factory.mktemp("host")
    oci_gpu("simulate", directory, "--gpus", "3")
    return load(str(directory / "config.toml"))


@pytest.fixture(autouse=True)
def conf(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    monkeypatch.setattr(choice, "DIRECTORIES", ())
    return tmp_path / "cgroup.conf"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("ConstrainDevices=yes\n", True),
        ("constraindevices = Yes # of all\n", True),
        ('ConstrainCores=no ConstrainDevices="YES"\n', True),
        ("ConstrainDevices=1", True),
        ("ConstrainDevices=no\n", False),
        ("#ConstrainDevices=yes\n", False),
        ("ConstrainDevices=yes\nConstrainDevices=no\n", False),
        ("ConstrainDevicesToo=yes\n", False),
        ("", False),
    ],
)
def test_lines_of_cgroup_conf(text, answer, conf):
    assert choice.constrains(text) is answer
    conf.write_text(text)
    assert choice.is_constrained() is answer


def test_the_first_file_that_is_there_counts(tmp_path):
    for name, word in (("a", "no"), ("b", "yes")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.conf").write_text(f"ConstrainDevices={word}\n")
    assert not choice.is_constrained([str(tmp_path / name) for name in ("none", "a", "b")])
    assert choice.is_constrained([str(tmp_path / name) for name in ("none", "b", "a")])
    assert not choice.is_constrained([str(tmp_path / "none")])
    assert not choice.is_constrained(["slurm.conf"])


@pytest.mark.parametrize(
    ("variables", "indices"),
    [
        ({}, ()),
        ({"SLURM_STEP_GPUS": "1"}, (1,)),
        ({"SLURM_STEP_GPUS": "2,0"}, (0, 2)),
        ({"SLURM_STEP_GPUS": "0,0"}, (0,)),
        ({"SLURM_STEP_GPUS": ""}, ()),
        ({"SLURM_STEP_GPUS": "1", "SLURM_JOB_GPUS": "0,1,2"}, (1,)),
        ({"SLURM_JOB_GPUS": "0,1,2"}, (0, 1, 2)),
        ({"CUDA_VISIBLE_DEVICES": "0", "NVIDIA_VISIBLE_DEVICES": "all"}, ()),
    ],
)
def test_variables_where_no_device_is_constrained(config, variables, indices):
    assert tuple(device.index for device in choice.given(variables, config)) == indices


def test_they_say_nothing_where_devices_are(config, conf):
    conf.write_text("ConstrainDevices=yes\n")
    assert [device.index for device in choice.given({"SLURM_STEP_GPUS": "1"}, config)] == [0, 1, 2]


@pytest.mark.parametrize("value", ["3", "-1", "0-1", "GPU-1", "1 2", "²", "0x1", "9" * 5])
def test_numbers_that_are_none(config, value):
    with pytest.raises(InvalidInput, match="is not a device of this host, which has 3; compare "):
        choice.given({"SLURM_STEP_GPUS": value}, config)


@pytest.fixture(scope="module")
def amd(tmp_path_factory):
    directory = tmp_path_factory.mktemp("amd")
    oci_gpu("simulate", directory, "--platform", "amd")
    return load(str(directory / "config.toml"))


def complaint(variables, devices, config):
    """Return what is said against a container's variables, "" for nothing."""
    try:
        choice.check_others(variables, devices, config)
    except InvalidInput as error:
        return str(error)
    return ""


def test_amds_variable_is_refused_where_it_would_be_passed_over_in_silence(amd):
    text = complaint({"AMD_VISIBLE_DEVICES": "0"}, (), amd)
    assert text.startswith("AMD_VISIBLE_DEVICES='0': asks for amd.com/gpu, and in a job only NVIDIA's GPUs are given")


@pytest.mark.parametrize("value", ["", "none", "void"])
def test_amds_variable_that_asks_for_nothing_is_no_reason(amd, value):
    assert complaint({"AMD_VISIBLE_DEVICES": value}, (), amd) == ""


def test_amds_variable_of_an_image_for_either_vendor_is_no_reason(amd, config):
    assert complaint({"AMD_VISIBLE_DEVICES": "all"}, (), config) == ""
    devices = choice.given({"SLURM_STEP_GPUS": "0"}, config)
    assert devices
    assert complaint({"AMD_VISIBLE_DEVICES": "all"}, devices, amd) == ""
