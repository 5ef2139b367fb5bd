"""A look at a host: also at devices that only CDI specifications describe, and without what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oci_gpu_hook.admin.cli import top, top_picture
from oci_gpu_hook.admin.metering import families
from oci_gpu_hook.admin.metering.look import Lookout
from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base.config.load import load
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import HookError

SPECIFICATION = {
    "cdiVersion": "0.6.0",
    "kind": "acme.com/npu",
    "devices": [{"name": "a", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}]}}],
}


@pytest.fixture
def config(tmp_path):
    """The configuration of a host with a GPU, and of another vendor's device."""
    host = make(str(tmp_path / "host"), device_nodes=False)
    specs = tmp_path / "cdi"
    specs.mkdir(mode=0o755)
    (specs / "acme.json").write_text(json.dumps(SPECIFICATION))
    path = Path(host.config)
    path.write_text(f'{path.read_text()}\n[cdi]\nspec-dirs = ["{specs}"]\n')
    return load(host.config)


def test_a_device_of_another_vendor(config):
    with Lookout(config) as lookout:
        look = lookout.look()
    assert look.warnings == ()
    document: Any = top.to_json(look)
    gpu, other = document["devices"]
    assert (gpu["kind"], gpu["device"], gpu["temperature"]) == ("nvidia.com/gpu", "0", 35)
    assert (other["kind"], other["device"], other["uuid"]) == ("acme.com/npu", "a", "acme.com/npu=a")
    assert (other["temperature"], other["holders"]) == (None, [])
    assert "acme.com/npu=a" in top_picture.of(look, 80).plain
    (states,) = [family for family in families.of(look, {}, 0) if family.name == "oci_gpu_devices"]
    assert ("", (("state", "free"),), 2.0) in states.samples


def test_a_host_of_which_nothing_can_be_read(tmp_path):
    (tmp_path / "state").mkdir(mode=0o777)
    (tmp_path / "state").chmod(0o777)
    nothing = str(tmp_path / "none")
    config = Config(state_dir=f"{tmp_path}/state", driver_root=nothing, dev_root=nothing, proc_root=nothing)
    with Lookout(config) as lookout, pytest.raises(HookError):
        lookout.look()
