"""Task groups: containers that an executor has launched at once, of which each has GPUs of its own."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid

import pytest

from tests.mesos.conftest import leases
from tests.mesos.test_unified import LIBRARY, REACH, gpus
from tests.runtime.fixtures import oci_gpu

NOW = {"OCI_GPU_WAIT": "0"}
EXECUTOR = {"kind": "custom", "image": "", "command": {"shell": True, "value": "sleep 600"}, "group": True}


def task(mesos, command: str = "sleep 600", **options) -> dict:
    """Return a task of a group that says where it can reach, and then runs a command."""
    text = f"/probe {' '.join((*REACH, LIBRARY))}; echo ready; {command}"
    return {"id": str(uuid.uuid4()), "image": mesos.image(), "command": {"shell": True, "value": text}, **options}


def nodes(running, name: str) -> set[str]:
    """Return the GPU nodes that a task of a group has been given, once it is there."""
    text = running.wait_for("ready", name)
    seen = {answer["do"]: answer["value"] for answer in map(json.loads, text.split("ready")[0].splitlines())}
    assert seen[LIBRARY].endswith("/libcuda.so.1")
    return {name for name in seen["list=/dev"] if name.startswith("nvidia") and name[6:].isdigit()}


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
def test_tasks_of_a_group_have_a_gpu_each(mesos, simulated, pid_namespace):
    tasks = [task(mesos, gpus=1, pid_namespace=pid_namespace) for _ in range(2)]
    group = mesos.start(**EXECUTOR, nested=tasks, pid_namespace=pid_namespace)
    given = [nodes(group, each["id"]) for each in tasks]
    assert sorted(map(sorted, given)) == [["nvidia0"], ["nvidia1"]]
    assert set(leases(simulated)) == {f"{group.id}.{each['id']}" for each in tasks}
    assert "0 of " in mesos.run(*REACH, gpus=1, environment=NOW).complaint()
    group.kill()
    assert leases(simulated) == {}


def test_a_task_that_is_done_gives_back_while_its_group_runs_on(mesos, simulated):
    short, long = task(mesos, "sleep 1", gpus=1), task(mesos, gpus=1)
    group = mesos.start(**EXECUTOR, nested=[short, long])
    kept = nodes(group, long["id"])
    nodes(group, short["id"])
    deadline = time.monotonic() + 20
    while f"{group.id}.{short['id']}" in leases(simulated):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    other = gpus(mesos.run(*REACH, gpus=1, environment=NOW).seen())
    assert (len(other), other & kept) == (1, set())
    assert nodes(group, long["id"]) == kept
    group.kill()


def test_a_group_of_which_one_fails_holds_nothing(mesos, simulated):
    failing, long = task(mesos, "exit 3", gpus=1), task(mesos, gpus=1)
    ended = mesos.start(**EXECUTOR, nested=[failing, long]).end()
    assert [each.status for each in ended if each.id == failing["id"]] == [3]
    assert leases(simulated) == {}
    assert gpus(mesos.run(*REACH, gpus=2, environment=NOW).seen()) == {"nvidia0", "nvidia1"}


def test_a_group_that_cannot_be_served_holds_nothing(mesos, simulated):
    tasks = [task(mesos, gpus=count, environment=NOW) for count in (2, 1)]
    ended = mesos.start(**EXECUTOR, nested=tasks).end()
    complaints = [each.complaint() for each in ended if "oci-gpu-hook: error" in each.stderr]
    assert len(complaints) == 1
    assert "0 of " in complaints[0] or "1 of " in complaints[0]
    assert leases(simulated) == {}


def test_a_task_of_a_group_is_killed(mesos, simulated):
    killed, long = task(mesos, gpus=1), task(mesos, gpus=1)
    group = mesos.start(**EXECUTOR, nested=[killed, long])
    for each in (killed, long):
        nodes(group, each["id"])
    for pid, argv in group.processes(killed["id"]).items():
        if argv[:1] == ["sleep"]:
            os.kill(pid, signal.SIGKILL)
    group.end()
    assert leases(simulated) == {}


def test_groups_whose_tasks_have_the_same_ids_take_nothing_from_each_other(mesos, simulated):
    """Whoever launches a nested container chooses its id; the whole path of its container names it."""
    one = task(mesos, gpus=1)
    first, second = (mesos.start(**EXECUTOR, nested=[dict(one)]) for _ in range(2))
    given = [nodes(group, one["id"]) for group in (first, second)]
    assert sorted(map(sorted, given)) == [["nvidia0"], ["nvidia1"]]
    held = leases(simulated)
    assert set(held) == {f"{group.id}.{one['id']}" for group in (first, second)}
    first.kill()
    assert leases(simulated) == {f"{second.id}.{one['id']}": held[f"{second.id}.{one['id']}"]}
    assert gpus(mesos.run(*REACH, gpus=1, environment=NOW).seen()) == given[0]
    assert oci_gpu("--config", simulated.config, "verify", one["id"]).endswith("has what it was given\n")
    second.kill()


def test_a_task_that_asks_for_nothing_is_given_nothing_of_its_groups(mesos, simulated):
    silent = {"NVIDIA_VISIBLE_DEVICES": "void"}
    served, beside = (
        task(mesos, gpus=1),
        {"image": mesos.image(), "environment": silent, "probe": ("list=/dev", LIBRARY)},
    )
    group = mesos.start(**{**EXECUTOR, "group": False}, nested=[beside, {**served, "environment": NOW}])
    nodes(group, served["id"])
    ended = group.kill()[0]
    assert not [name for name in ended.seen()["list=/dev"] if name.startswith("nvidia")]
    assert "cannot open shared object file" in ended.seen()[LIBRARY]
