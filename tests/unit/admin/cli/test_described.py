"""Devices of other vendors as people see them, on a host that has specifications and no driver of NVIDIA's."""

from __future__ import annotations

import json
import os
from typing import Any

import jsonschema
import pytest

from oci_gpu_hook.admin.cli import main
from tests.paths import SCHEMAS

NODE = {"path": "/dev/dri/renderD128", "type": "c", "major": 226, "minor": 128, "fileMode": 0o666, "uid": 0, "gid": 0}
EDITS: dict[str, Any] = {
    "env": ["A=1"],
    "deviceNodes": [NODE],
    "netDevices": [{"hostInterfaceName": "eth7", "name": "eth0"}],
    "mounts": [{"hostPath": "/etc", "containerPath": "/mnt", "options": ["ro", "bind"]}],
    "hooks": [{"hookName": "poststop", "path": "/bin/true", "args": ["true"], "timeout": 1}],
    "additionalGids": [44],
    "intelRdt": {"closID": "x"},
}


def device(name, minor, **more):
    return {"name": name, "containerEdits": {"deviceNodes": [NODE | {"minor": minor}], **more}}


@pytest.fixture
def call(tmp_path, capsys):
    """Run `oci-gpu` on a host that has specifications and nothing else; return its exit status, stdout and stderr."""
    specs = tmp_path / "cdi"
    specs.mkdir(mode=0o755)
    amd = [device("0", 128), device("GPU-0", 128), device("1", 129), device("all", 128)]
    amd[-1]["containerEdits"]["deviceNodes"].append(NODE | {"path": "/dev/dri/renderD129", "minor": 129})
    documents = {
        "amd.com/gpu": amd,
        "every.com/thing": [{"name": "one", "containerEdits": EDITS}],
        "nvidia.com/gpu": [device("0", 130)],
    }
    for kind, devices in documents.items():
        path = specs / f"{kind.replace('/', '-')}.json"
        path.write_text(json.dumps({"cdiVersion": "1.1.0", "kind": kind, "devices": devices}))
        path.chmod(0o644)
    config = tmp_path / "config.toml"
    config.write_text(
        f'[driver]\nroot = "{tmp_path}/none"\nproc-root = "{tmp_path}/none"\ndev-root = "{tmp_path}/none"\n'
        f'[cdi]\nspec-dirs = ["{specs}"]\n[state]\ndir = "{tmp_path}/state"\n'
    )

    def run(*arguments):
        status = main.main(["--config", str(config), *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def bundle(tmp_path):
    def make(devices):
        path = tmp_path / "bundle"
        (path / "rootfs").mkdir(parents=True, exist_ok=True)
        document = {
            "ociVersion": "1.1.0",
            "process": {"env": [f"OCI_GPU_DEVICES={devices}"]},
            "root": {"path": "rootfs"},
            "linux": {},
        }
        (path / "config.json").write_text(json.dumps(document))
        return path

    return make


def valid(text, schema):
    document = json.loads(text)
    jsonschema.validate(document, json.loads((SCHEMAS / f"{schema}.schema.json").read_text()))
    return document


def test_request(call, bundle):
    status, out, _ = call("request", bundle("amd.com/gpu=0,every.com/thing=one"), "--json")
    document = valid(out, "request")
    assert (status, document["kind"], document["beside"][0]["devices"]) == (0, "amd.com/gpu", ["one"])
    _, out, _ = call("request", bundle("amd.com/gpu=0,every.com/thing=one"))
    assert "amd.com/gpu:" in out
    assert "one of every.com/thing" in out


def test_plan(call, bundle):
    status, out, _ = call("plan", bundle("every.com/thing=one,amd.com/gpu=all"), "--json")
    document = valid(out, "plan")
    assert (status, document["gpus"]) == (0, [])
    assert [found["id"] for found in document["devices"]] == [
        "every.com/thing=one",
        "amd.com/gpu=GPU-0",
        "amd.com/gpu=1",
    ]
    assert set(document["containerEdits"]) == set(EDITS)
    refused = [text for text in document["warnings"] if "start the container through oci-gpu-runtime" in text]
    assert len(refused) == 4, "env, hook, network interface, intelRdt"
    status, out, _ = call("plan", bundle("every.com/thing=one,amd.com/gpu=all"))
    assert status == 0
    for shown in ("every.com/thing=one", "/dev/dri/renderD129", "hook of the stage poststop", "network interface eth7"):
        assert shown in out


def test_plan_of_what_is_not_there(call, bundle):
    status, out, _ = call("plan", bundle("amd.com/gpu=7"))
    assert status == 1
    assert "of amd.com/gpu they have 0, GPU-0, 1, all" in out.replace("\n", " ")


def test_info_shows_devices_of_all_kinds_but_those_that_have_a_room(call):
    status, out, _ = call("info", "--json")
    document = valid(out, "info")
    assert (status, document["driver"]) == (0, None)
    assert [(found["kind"], found["name"], found["names"]) for found in document["devices"]] == [
        ("amd.com/gpu", "0", ["0", "GPU-0"]),
        ("amd.com/gpu", "1", ["1"]),
        ("every.com/thing", "one", ["one"]),
    ]
    status, out, _ = call("info")
    assert status == 0
    assert "amd.com/gpu=0" in out
    assert "GPU-0" in out


def test_leases_shows_what_is_free(call):
    status, out, _ = call("leases")
    assert status == 0
    assert "amd.com/gpu=1" in out
    assert "free" in out
    assert "warning" not in out, "nobody misses NVIDIA's driver here"


def test_without_any_device_info_says_that_there_is_no_driver(call, tmp_path):
    for path in (tmp_path / "cdi").iterdir():
        os.unlink(path)
    status, _, err = call("info")
    assert status == 1
    assert "driver" in err
