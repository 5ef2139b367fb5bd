"""Who holds a GPU, where it is a container of a pod: by the names that people know, and not by 64 hex digits."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.admin.cli.main import main
from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.allocation import query
from oci_gpu_hook.allocation.model import Busy
from oci_gpu_hook.base import limits
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import snapshot
from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory
from oci_gpu_hook.oci import container as containers
from oci_gpu_hook.oci import pod
from oci_gpu_hook.request.model import Request
from tests.unit.nvidia.bundles import config_json

SCHEMAS = Path(__file__).parents[3] / "schemas"
ID = "3f5a" * 16
CONTAINERD = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "app",
    "io.kubernetes.cri.sandbox-name": "trainer-0",
    "io.kubernetes.cri.sandbox-namespace": "team-a",
}
CRIO = {
    "io.kubernetes.cri-o.ContainerType": "container",
    "io.kubernetes.container.name": "app",
    "io.kubernetes.pod.name": "trainer-0",
    "io.kubernetes.pod.namespace": "team-a",
}
NAME = "team-a/trainer-0/app"
GPUS_OF_HOST = (Gpu(index=0, uuid="GPU-0", minor=0, bus_id="00000000:01:00.0", memory=1, name="H100"),)
GPUS = of_nvidia.of(GPUS_OF_HOST)


@pytest.fixture
def allocate(tmp_path):
    """Grant GPU 0 to a container with these annotations, whose process lives as long as the test."""
    processes = []

    def run(annotations, name=ID):
        processes.append(subprocess.Popen(["/bin/sleep", "60"]))
        state = containers.State(id=name, pid=processes[-1].pid, bundle="/b", root="", annotations={})
        container = containers.parse_config(config_json(annotations=annotations).encode(), state)
        wish = Request(devices=("0",), exclusive=True, driver_capabilities=(), source="annotations")
        return story.allocate(wish, GPUS, container, Config(state_dir=f"{tmp_path}/state"))

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("annotations", [CONTAINERD, CRIO], ids=["containerd", "cri-o"])
def test_a_refusal_names_the_pod(allocate, annotations):
    allocate(annotations)
    with pytest.raises(Busy, match=f"container '{NAME}' holds it exclusively"):
        allocate({}, "other")


def test_where_no_pod_is_known_it_is_the_id(allocate):
    allocate({"io.kubernetes.cri.container-type": "container"})
    with pytest.raises(Busy, match=f"container '{ID}' holds it"):
        allocate({}, "other")


def test_the_command_shows_the_pod_and_releases_by_its_name(allocate, tmp_path, monkeypatch, capsys):
    host = Inventory(driver_version="1", gpus=GPUS_OF_HOST, libraries=(), files=(), nodes=(), detailed=True)
    monkeypatch.setattr(snapshot, "load", lambda *_, **__: host)
    config = tmp_path / "config.toml"
    config.write_text(f'[state]\ndir = "{tmp_path}/state"\n')
    allocate(CONTAINERD)
    assert main(["--config", str(config), "leases", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(json.loads((SCHEMAS / "leases.schema.json").read_text())).validate(shown)
    assert [(one["container"], one["pod"]) for one in shown] == [(ID, NAME)]
    assert main(["--config", str(config), "leases"]) == 0
    assert NAME in capsys.readouterr().out
    assert main(["--config", str(config), "leases", "release", "--force", NAME]) == 0
    assert query.current(Config(state_dir=f"{tmp_path}/state")).leases == ()


def test_the_record_is_as_its_schema_says(allocate, tmp_path):
    allocate(CONTAINERD)
    record = json.loads((tmp_path / "state/leases.json").read_text())
    jsonschema.Draft202012Validator(json.loads((SCHEMAS / "lease-record.schema.json").read_text())).validate(record)
    assert record["leases"][0]["pod"] == NAME


def test_a_name_has_a_limit(allocate, tmp_path):
    allocate(CONTAINERD | {"io.kubernetes.cri.sandbox-name": "x" * 100_000})
    (lease,) = query.current(Config(state_dir=f"{tmp_path}/state")).leases
    assert len(lease.pod) == limits.POD_NAME
    assert os.path.getsize(tmp_path / "state/leases.json") < 2000


def test_a_sandbox_and_a_plain_container():
    assert pod.description({}) == ""
    assert pod.description({"io.kubernetes.pod.name": "p"}) == "p"
