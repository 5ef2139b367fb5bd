"""Devices that CDI specification files describe, for tasks of the unified containerizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mesos.conftest import Mesos, leases
from tests.mesos.test_unified import LIBRARY, NO_IMAGE_ENVIRONMENT
from tests.runtime.vendors import AMD, HABANA, Vendors, opens

MOUNTS = """#!/usr/bin/python3 -ISB
import json, os, subprocess, sys
state = json.load(sys.stdin)
config = json.load(open(f"{state['bundle']}/config.json"))
place = config["root"]["path"] + "/of-hook"
os.mkdir(place)
subprocess.run(["/bin/mount", "-t", "tmpfs", "mine", place], check=True)
"""


@dataclass(frozen=True)
class Agents:
    """An agent of a host with the devices of other vendors."""

    mesos: Mesos
    vendors: Vendors

    def started(self, *probe: str, **options):
        image = self.mesos.image("debian", NO_IMAGE_ENVIRONMENT)
        return self.mesos.start(*probe, **{"image": image, **options})

    def run(self, *probe: str, **options):
        return self.started(*probe, **options).end()[-1]

    def describe(self, name: str, **edits) -> None:
        device = {"name": "one", "containerEdits": edits}
        self.vendors.write(f"{name}.json", {"cdiVersion": "1.1.0", "kind": f"{name}.com/thing", "devices": [device]})


@pytest.fixture
def described(mesos, simulated, directory) -> Iterator[Agents]:
    vendors = Vendors(directory / "vendors")
    vendors.directory.mkdir(mode=0o755)
    vendors.make()
    text = simulated.config.read_text()
    simulated.config.write_text(f'{text}\n[cdi]\nspec-dirs = ["{vendors.specs}"]\n')
    yield Agents(mesos, vendors)
    simulated.config.write_text(text)


def program(directory: Path, name: str, script: str) -> str:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
@pytest.mark.parametrize("kind", ["command", "custom"])
def test_a_task_gets_nodes_files_and_variables(described, simulated, kind, pid_namespace):
    """By name and by count; a variable of the specification goes before the task's own."""
    probes = [*opens("accel/accel0", "accel/accel1"), "getenv=HABANA_MODULE", "getenv=HABANA_LOGS", "mountinfo"]
    asked = {"OCI_GPU_DEVICES": f"{HABANA}=0", "HABANA_MODULE": "mine", "HABANA_LOGS": "here"}
    ended = described.run(*probes, kind=kind, environment=asked, pid_namespace=pid_namespace)
    seen = ended.seen()
    assert [seen[probe] for probe in probes[:4]] == ["ENXIO", "ENOENT", "0", "/var/log/habana_logs"]
    assert "/usr/lib/habanalabs/libhl_logger.so" in seen["mountinfo"]
    assert ended.stderr.count("Executing pre-exec command") == 1
    assert leases(simulated) == {}


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
def test_counted_devices_are_leased_with_their_variables(described, simulated, pid_namespace):
    wish = {"OCI_GPU_COUNT": "1", "OCI_GPU_KIND": HABANA, "OCI_GPU_EXCLUSIVE": "true"}
    probes = [*opens("accel/accel0", "accel/accel1"), "getenv=HABANA_MODULE"]
    sleep = {"shell": True, "value": f"/probe {' '.join(probes)}; echo ready; exec sleep 60"}
    tasks = [described.started(command=sleep, environment=wish, pid_namespace=pid_namespace) for _ in range(2)]
    found = []
    for task in tasks:
        answers = map(json.loads, task.wait_for("ready").splitlines()[:-1])
        found.append(tuple(answer["value"] for answer in answers))
    assert sorted(found) == [("ENOENT", "ENXIO", "1"), ("ENXIO", "ENOENT", "0")]
    held = leases(simulated)
    assert sorted(held[task.id] for task in tasks) == [[f"{HABANA}=AC0-UUID"], [f"{HABANA}=AC1-UUID"]]
    refused = described.run(*probes, environment=wish, pid_namespace=pid_namespace)
    assert "0 of 2 available" in refused.complaint()
    tasks.pop().kill()
    assert described.run(*probes, environment=wish, pid_namespace=pid_namespace).status == 0
    tasks.pop().kill()


def test_beside_a_gpu_of_mesos(described, simulated):
    """`gpus:1` and a device of another vendor: both are granted, by one launch."""
    probes = [*opens("nvidia0", "nvidia1", "accel/accel0"), LIBRARY, "getenv=HABANA_MODULE"]
    asked = {"OCI_GPU_DEVICES": f"nvidia.com/gpu=1,{HABANA}=0"}
    seen = described.run(*probes, gpus=1, environment=asked).seen()
    assert [seen[probe] for probe in probes[:3]] == ["ENOENT", "ENXIO", "ENXIO"]
    assert seen[LIBRARY].endswith("/libcuda.so.1")
    assert seen["getenv=HABANA_MODULE"] == "0"


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_groups_reach_a_task_of_a_user(described, user):
    described.describe("groups", additionalGids=[4242, 4343])
    ended = described.run("read=/proc/self/status", user=user, environment={"OCI_GPU_DEVICES": "groups.com/thing=one"})
    line = next(line for line in ended.seen()["read=/proc/self/status"].splitlines() if line.startswith("Groups:"))
    assert ({"4242", "4343"} <= {*line.split()}) == (user == "nobody"), "root needs no group, and Mesos sets none"


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
def test_hooks_run_before_the_task(described, directory, pid_namespace):
    """With the state that OCI describes; those of createContainer see the container's mounts, and make some."""
    said = directory / "said"
    tells = f'cat > {said}.$1; echo "$1 $MINE $LD_PRELOAD $(tr "\\0" " " < /proc/self/environ)" >> {said}'
    hooks = [
        {
            "hookName": stage,
            "path": program(directory, f"of-{stage}", tells),
            "args": ["hook", stage],
            "env": ["MINE=1"],
        }
        for stage in ("createContainer", "createRuntime", "prestart")
    ]
    Path(program(directory, "mounts", "")).write_text(MOUNTS)
    hooks.append({"hookName": "createContainer", "path": str(directory / "mounts")})
    described.describe("hooks", hooks=hooks, env=["LD_PRELOAD=/absent.so"])
    asked = {"OCI_GPU_DEVICES": "hooks.com/thing=one", "SECRET": "of the task"}
    ended = described.run("mountinfo", "getenv=MINE", environment=asked, pid_namespace=pid_namespace)
    seen = ended.seen()
    lines = said.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["prestart", "createRuntime", "createContainer"]
    for line in lines:
        assert {name.partition("=")[0] for name in line.split()[2:]} <= {"MINE", "PWD", "OLDPWD", "SHLVL", "_"}
        assert line.split()[1] == "1"
    assert " /of-hook " in seen["mountinfo"]
    assert seen["getenv=MINE"] == ""
    states = [json.loads(Path(f"{said}.{line.split()[0]}").read_text()) for line in lines]
    assert {(state["id"], state["status"]) for state in states} == {(ended.id, "creating")}
    assert all(state["pid"] > 1 and state["bundle"] for state in states)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo no such firmware >&2; exit 3", "ended with status 3, and said 'no such firmware'"),
        ("exec sleep 60", "has not ended within 1 s"),
        ("kill -9 $$", "ended with status -9"),
        ("", "Exec format error"),
    ],
)
def test_a_hook_that_fails_fails_the_launch(described, simulated, directory, script, why):
    path = program(directory, "fails", script)
    if not script:
        Path(path).write_bytes(b"")
    described.describe("hooks", hooks=[{"hookName": "createRuntime", "path": path, "timeout": 1}])
    complaint = described.run("list=/", environment={"OCI_GPU_DEVICES": "hooks.com/thing=one"}).complaint()
    assert complaint.startswith(f"CDI hook '{path}' (createRuntime): ")
    assert why in complaint
    assert leases(simulated) == {}


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        ({"hooks": [{"hookName": "poststop", "path": "/bin/true"}]}, "CDI hook '/bin/true' (poststop): a launch of"),
        ({"hooks": [{"hookName": "startContainer", "path": "/x"}]}, "CDI hook '/x' (startContainer): a launch of"),
        ({"netDevices": [{"hostInterfaceName": "eth7", "name": "eth0"}]}, "CDI network interface 'eth7'"),
        ({"intelRdt": {"closID": "x"}}, "CDI intelRdt: "),
        (
            {"mounts": [{"hostPath": "/etc", "containerPath": "/mnt", "options": ["bind", "rshared"]}]},
            "CDI mount '/mnt': a hook does not know the option 'rshared'",
        ),
    ],
)
def test_what_no_launch_can_make_is_refused_and_the_other_door_named(described, simulated, edits, why):
    described.describe("odd", **edits)
    complaint = described.run("list=/", environment={"OCI_GPU_DEVICES": "odd.com/thing=one"}).complaint()
    assert complaint.startswith(why)
    assert "run the task by the Docker containerizer with the runtime oci-gpu" in complaint
    assert leases(simulated) == {}


def test_nested_tasks_have_what_they_ask_for_themselves(described):
    probes = [*opens("accel/accel0", "accel/accel1", "dri/renderD128"), "getenv=HABANA_MODULE"]
    image = described.mesos.image("debian", NO_IMAGE_ENVIRONMENT)
    tasks = [
        {"image": image, "probe": probes, "environment": {"OCI_GPU_DEVICES": name}}
        for name in (f"{HABANA}=1", f"{AMD}=0")
    ]
    executor = {"shell": True, "value": "sleep 60"}
    first, second, _ = described.mesos.start(kind="custom", image="", command=executor, nested=tasks).end()
    assert [first.seen()[probe] for probe in probes] == ["ENOENT", "ENXIO", "ENOENT", "1"]
    assert [second.seen()[probe] for probe in probes] == ["ENOENT", "ENOENT", "ENXIO", ""]


def test_a_task_without_a_wish_has_its_own_variables_and_nothing_else(described):
    seen = described.run("getenv=HABANA_MODULE", "list=/dev", environment={"HABANA_MODULE": "mine"}).seen()
    assert seen["getenv=HABANA_MODULE"] == "mine"
    assert "accel" not in seen["list=/dev"]
