"""AMD's GPUs for Mesos' tasks, which Mesos knows nothing of: by AMD_VISIBLE_DEVICES and by count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.mesos.conftest import Mesos, leases
from tests.mesos.test_unified import LIBRARY, NO_IMAGE_ENVIRONMENT
from tests.runtime.fixtures import oci_gpu
from tests.runtime.simulated import SimulatedHost
from tests.runtime.vendors import opens


@dataclass(frozen=True)
class Agent:
    """An agent of a host with two GPUs of NVIDIA's and two of AMD's."""

    mesos: Mesos
    host: SimulatedHost

    def started(self, *probe: str, **options):
        image = self.mesos.image("debian", NO_IMAGE_ENVIRONMENT)
        return self.mesos.start(*probe, **{"image": image, **options})

    def run(self, *probe: str, **options):
        return self.started(*probe, **options).end()[-1]

    def nodes(self, index: int) -> list[str]:
        """Return the nodes of one of AMD's GPUs, below /dev."""
        devices = json.loads(oci_gpu("--config", self.host.config, "info", "--json"))["devices"]
        (found,) = [device["nodes"] for device in devices if device["name"] == str(index)]
        return [path.removeprefix("/dev/") for path in found]


@pytest.fixture
def agent(mesos, simulated, machine) -> Iterator[Agent]:
    directory = machine.work / "mesos-amd"
    if not directory.exists():
        oci_gpu("simulate", directory, "--platform", "nvidia,amd", "--gpus", "2")
    host = SimulatedHost(directory)
    text = simulated.config.read_text()
    simulated.config.write_text(host.config.read_text())
    yield Agent(mesos, host)
    simulated.config.write_text(text)


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
@pytest.mark.parametrize("kind", ["command", "custom"])
@pytest.mark.parametrize(
    "asked",
    [{"AMD_VISIBLE_DEVICES": "0"}, {"OCI_GPU_COUNT": "1", "OCI_GPU_KIND": "amd.com/gpu"}],
    ids=["name", "count"],
)
def test_a_task_gets_amds_nodes_and_no_others(agent, kind, pid_namespace, asked):
    given, others = ["kfd", *agent.nodes(0)], [*agent.nodes(1), "nvidia0", "nvidiactl"]
    ended = agent.run(*opens(*given, *others), kind=kind, environment=asked, pid_namespace=pid_namespace)
    seen = ended.seen()
    assert [seen[probe] for probe in opens(*given)] == ["ENXIO"] * len(given)
    assert [seen[probe] for probe in opens(*others)] == ["ENOENT"] * len(others)
    assert leases(agent.host) == {}


def test_two_tasks_do_not_have_one_gpu(agent):
    wish = {"OCI_GPU_COUNT": "1", "OCI_GPU_KIND": "amd.com/gpu", "OCI_GPU_EXCLUSIVE": "true"}
    sleep = {"shell": True, "value": "echo ready; exec sleep 60"}
    tasks = [agent.started(command=sleep, environment=wish) for _ in range(2)]
    for task in tasks:
        task.wait_for("ready")
    held = sorted(uuid for task in tasks for uuid in leases(agent.host)[task.id])
    assert len(held) == len(set(held)) == 2
    assert all(uuid.startswith("amd.com/gpu=") for uuid in held)
    assert "0 of 2 available" in agent.run("list=/", environment=wish).complaint()
    for task in tasks:
        task.kill()
    assert leases(agent.host) == {}


def test_beside_a_gpu_of_mesos(agent):
    """`gpus:1` of the agent is NVIDIA's: who wants both names both."""
    probes = opens("nvidia0", "kfd", *agent.nodes(1))
    asked = {"OCI_GPU_DEVICES": "nvidia.com/gpu=0,amd.com/gpu=1"}
    seen = agent.run(*probes, *opens("nvidia1"), LIBRARY, gpus=1, environment=asked).seen()
    assert {seen[probe] for probe in probes} == {"ENXIO"}
    assert seen["open=/dev/nvidia1"] == "ENOENT"
    assert seen[LIBRARY].endswith("/libcuda.so.1")


def test_the_variable_alone_asks_for_amds_alone(agent):
    amds, nvidias = opens("kfd", *agent.nodes(1)), opens("nvidia0", "nvidia1")
    seen = agent.run(*amds, *nvidias, gpus=1, environment={"AMD_VISIBLE_DEVICES": "1"}).seen()
    assert {seen[probe] for probe in amds} == {"ENXIO"}
    assert {seen[probe] for probe in nvidias} == {"ENOENT"}


def test_a_gpu_that_the_host_does_not_have_is_refused(agent):
    ended = agent.run("list=/", environment={"AMD_VISIBLE_DEVICES": "7"})
    assert ended.status
    assert "this host has no such device" in ended.complaint()
