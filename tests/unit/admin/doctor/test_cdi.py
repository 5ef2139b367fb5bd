"""The doctor's look at CDI specification files."""

from __future__ import annotations

import pytest

from oci_gpu_hook.admin.doctor import cdi
from oci_gpu_hook.admin.doctor.model import ERROR, OK, WARNING, Host
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.devices.nvidia.model import Inventory

SPEC = """\
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices: [{{name: "0", containerEdits: {{env: [A=1]}}}}]
containerEdits:
  hooks: [{{hookName: createContainer, path: /h, args: [h, {argument}]}}]
"""


@pytest.fixture
def found(tmp_path):
    """Return what is found where these files are in the one directory."""

    def examine(**files):
        directory = tmp_path / "cdi"
        directory.mkdir(mode=0o755)
        for name, text in files.items():
            path = directory / f"{name}.yaml"
            path.write_text(text)
            path.chmod(0o644)
        inventory = Inventory(driver_version="580.2", gpus=(), libraries=(), files=(), nodes=())
        config = Config(cdi_spec_dirs=("/cdi",))
        return list(cdi.check(Host(config=config, config_path="", inventory=inventory, root=str(tmp_path))))

    return examine


def test_no_files_are_nothing_to_speak_of(found):
    assert found() == []


@pytest.mark.parametrize("option", ["--driver", "--host-driver-version"])
def test_a_specification_of_another_driver(found, option):
    (finding,) = found(a=SPEC.format(argument=f"{option}=580.1"))
    assert finding.severity == ERROR
    assert "is for driver 580.1, but 580.2 is running" in finding.what
    assert "cdi refresh" in finding.remedy


def test_all_is_well(found):
    (finding,) = found(a=SPEC.format(argument="--driver=580.2"))
    assert finding.severity == OK


def test_two_files_with_one_device(found):
    spec = SPEC.format(argument="x")
    (finding,) = found(a=spec, b=spec)
    assert finding.severity == ERROR
    assert "nvidia.com/gpu=0 in" in finding.what


def test_a_broken_file_is_a_warning(found):
    (finding,) = found(a="kind: x\n")
    assert finding.severity == WARNING
    assert "a.yaml" in finding.what
