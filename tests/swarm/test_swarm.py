"""Docker Swarm: which GPUs a replica gets is Swarm's choice, and no two have the same."""

from __future__ import annotations

import json
import os

import pytest

from tests.runtime.sharing import daemons, settle, shares
from tests.runtime.test_devices import assert_reaches, reach
from tests.swarm.nodes import GPUS, NODES

ONE = ("--generic-resource", "NVIDIA-GPU=1")
JOBS = int(os.environ.get("OCI_GPU_SWARM_REPLICAS", "40"))


def named(task: dict) -> list[str]:
    """Return the GPUs that Swarm has given a task."""
    return [each["NamedResourceSpec"]["Value"] for each in task.get("GenericResources") or []]


def seen(swarm, task: dict) -> dict:
    """Return what a probe sees in the container of a task."""
    node = swarm.node_of(task)
    said = node("exec", task["Status"]["ContainerStatus"]["ContainerID"], "/probe", *reach(node.simulated))
    return {answer["do"]: answer["value"] for answer in map(json.loads, said.splitlines())}


def assert_has_its_own(swarm, task: dict, count: int) -> tuple[int, ...]:
    """Check that a task's container reaches what Swarm has given it and nothing else; return the indices."""
    given = named(task)
    indices = tuple(gpu.index for gpu in swarm.node_of(task).simulated.gpus() if gpu.uuid in given)
    assert len(indices) == count
    assert_reaches(seen(swarm, task), swarm.node_of(task).simulated, indices)
    return indices


def test_nodes_hand_out_their_gpus(swarm):
    for node in swarm.nodes:
        said = json.loads(node("info", "--format", "{{json .GenericResources}}"))
        names = {each["NamedResourceSpec"]["Value"] for each in said}
        assert names == {gpu.uuid for gpu in node.simulated.gpus()}
        assert {each["NamedResourceSpec"]["Kind"] for each in said} == {"NVIDIA-GPU"}


def test_each_replica_has_gpus_of_its_own_and_they_are_spread(swarm):
    swarm.create("pairs", "--replicas", "6", "--generic-resource", "NVIDIA-GPU=2")
    tasks = swarm.await_running("pairs", 6)
    given = [(swarm.node_of(task).number, index) for task in tasks for index in assert_has_its_own(swarm, task, 2)]
    assert len({*given}) == 12
    assert {number for number, _ in given} == {*range(NODES)}


def test_all_gpus_of_all_nodes_and_one_replica_too_many(swarm):
    swarm.create("full", "--replicas", NODES * GPUS + 1, *ONE)
    tasks = swarm.await_running("full", NODES * GPUS)
    given = [(swarm.node_of(task).number, *assert_has_its_own(swarm, task, 1)) for task in tasks]
    assert sorted(given) == [(number, index) for number in range(NODES) for index in range(GPUS)]
    (left,) = swarm.tasks("full", "desired-state=running")[NODES * GPUS :]
    assert "insufficient resources" in str([task["Status"] for task in swarm.tasks("full")])
    assert left["Status"]["State"] != "failed"
    held = [gpu for node in swarm.nodes for gpus in node.held().values() for gpu in gpus]
    assert len(held) == len({*held}) == NODES * GPUS


def test_a_service_without_resources_gets_none_of_what_its_image_asks_for_by_the_resource(swarm):
    swarm.create("plain", "--replicas", "2")
    for task in swarm.await_running("plain", 2):
        assert not [name for name in seen(swarm, task)["list=/dev"] if "nvidia" in name]


@pytest.mark.parametrize("lie", ["DOCKER_RESOURCE_NVIDIA-GPU=all", "NVIDIA_VISIBLE_DEVICES=all"])
def test_variables_of_the_service_give_it_no_more(swarm, lie):
    swarm.create("greedy", "--replicas", "3", "--env", lie, *ONE)
    for task in swarm.await_running("greedy", 3):
        assert_has_its_own(swarm, task, 1)


def test_a_count_beside_what_swarm_has_given_is_refused(swarm):
    swarm.create("both", "--replicas", "1", "--env", "OCI_GPU_COUNT=4", *ONE)
    swarm.until(lambda: "ask by count or by name, not by both" in swarm.describe(), "nothing is said of it")
    assert swarm.running("both") == []


def test_replicas_share_gpus_by_the_service_s_variables(swarm):
    """Without Swarm's resource, whose GPUs are whole: two parts of 39 GiB fit onto a GPU, a third goes to another."""
    node = swarm.manager
    words = ("OCI_GPU_MEMORY_LIMIT=39GiB", "OCI_GPU_CORES=50%", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
    environment = [word for each in words for word in ("--env", each)]
    swarm.create("parts", "--replicas", "3", "--constraint", "node.role==manager", *environment)
    for task in swarm.await_running("parts", 3):
        said = node("exec", task["Status"]["ContainerStatus"]["ContainerID"], "/probe", "cuda=1")
        assert json.loads(said)["value"] == "39936 of 81559 MiB, 66, 0"
    first, second = (gpu.uuid for gpu in node.simulated.gpus()[:2])
    assert sorted(node.held().values()) == sorted([[first], [first], [second]])
    assert len(shares(node.simulated)) == 3

    named = (*environment, "--env", f"NVIDIA_VISIBLE_DEVICES={first}")
    swarm.create("full", "--replicas", "1", "--constraint", "node.role==manager", *named)
    swarm.until(lambda: "39GiB and 50% of the cores of GPU 0" in swarm.describe(), "nothing is said of it")
    assert swarm.running("full") == []
    swarm.remove_services()
    settle(lambda: (daemons(node.simulated), shares(node.simulated)) == ([], []))


def test_a_node_is_drained_and_comes_back(swarm):
    swarm.create("moving", "--replicas", "12", *ONE)
    swarm.await_running("moving", 12)
    away = swarm.nodes[2]
    swarm.manager("node", "update", "--availability", "drain", away.name)
    try:
        swarm.until(lambda: not away.containers() and len(swarm.running("moving")) == 12, "replicas do not move")
        assert away.held() == {}
        for task in swarm.running("moving"):
            assert swarm.node_of(task) is not away
            assert_has_its_own(swarm, task, 1)
        given = [name for task in swarm.running("moving") for name in named(task)]
        assert len({*given}) == 12
    finally:
        swarm.manager("node", "update", "--availability", "active", away.name)
    swarm.manager("service", "scale", "--detach", f"moving={NODES * GPUS}")
    tasks = swarm.await_running("moving", NODES * GPUS)
    assert len({(swarm.node_of(task).number, *assert_has_its_own(swarm, task, 1)) for task in tasks}) == NODES * GPUS


def test_a_dockerd_that_is_restarted(swarm):
    swarm.create("steady", "--replicas", "6", *ONE)
    swarm.await_running("steady", 6)
    node = swarm.nodes[1]
    node.daemon.terminate()
    node.daemon.wait(timeout=60)
    node.machine.daemons.remove(node.daemon)
    node.start()
    swarm.until(lambda: len(swarm.running("steady")) == 6, "replicas do not come back")
    given = []
    for task in swarm.running("steady"):
        assert_has_its_own(swarm, task, 1)
        given += named(task)
    assert len({*given}) == 6


@pytest.mark.timeout(900)
def test_storm_of_replicas(swarm, capsys):
    """Jobs through the GPUs of all nodes (OCI_GPU_SWARM_REPLICAS; `make stress`: 100), and the leases looked at."""
    wish = ("--mode", "replicated-job", "--replicas", JOBS, "--max-concurrent", NODES * GPUS + 4)
    script = "/probe list=/dev; sleep 1"
    swarm.create("storm", *wish, *ONE, command=("/bin/sh", "-c", script))
    busiest = 0

    def done() -> bool:
        nonlocal busiest
        busy = 0
        for node in swarm.nodes:
            record = json.loads((node.simulated.state_dir / "leases.json").read_text())
            gpus = [device["gpu"] for lease in record["leases"] for device in lease["devices"]]
            assert len(gpus) == len({*gpus}), "one GPU is held twice"
            busy += len(gpus)
        busiest = max(busy, busiest)
        return len([task for task in swarm.tasks("storm") if task["Status"]["State"] == "complete"]) == JOBS

    swarm.until(done, "jobs are lost", 800)
    tasks = swarm.tasks("storm")
    assert {task["Status"]["State"] for task in tasks} == {"complete"}, "none has failed, none was tried again"
    assert len(tasks) == JOBS
    for task in tasks:
        (given,) = named(task)
        node = swarm.node_of(task)
        (gpu,) = (gpu for gpu in node.simulated.gpus() if gpu.uuid == given)
        said = json.loads(node("logs", task["Status"]["ContainerStatus"]["ContainerID"]).splitlines()[0])
        found = [name for name in said["value"] if name[:6] == "nvidia" and name[6:].isdigit()]
        assert found == [f"nvidia{gpu.minor}"]
    assert busiest > NODES
    with capsys.disabled():
        print(f"\n{JOBS} replicas, {busiest} at one time at most")
