"""Mesos' Docker containerizer: dockerd, called with the arguments that mesos-docker-executor makes.

Of Mesos 1.11, in its order: resources, environment, volumes, network, entry point, name, the parameters that the task
gives in ContainerInfo.docker.parameters, image, command.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid

import pytest

from tests.runtime.test_devices import assert_reaches, reach

RUNTIME = {"key": "runtime", "value": "oci-gpu"}
ALONE = {"OCI_GPU_COUNT": "1", "OCI_GPU_EXCLUSIVE": "true"}
CUDA = {"NVIDIA_VISIBLE_DEVICES": "all"}


class Task:
    """A task of the Docker containerizer, from the executor's `docker run` to the agent's `docker rm`."""

    def __init__(self, docker, command: str, parameters: list[dict], environment: dict[str, str]) -> None:
        self.docker = docker
        self.name = f"mesos-{uuid.uuid4()}"
        sandbox = docker.directory / self.name
        sandbox.mkdir()
        given = {**environment, "MESOS_SANDBOX": "/mnt/mesos/sandbox", "MESOS_CONTAINER_NAME": self.name}
        arguments = ["--cpu-shares", "1024", "--memory", "33554432"]
        arguments += [text for name, value in given.items() for text in ("-e", f"{name}={value}")]
        arguments += ["-v", f"{sandbox}:/mnt/mesos/sandbox", "--net", "none", "--entrypoint", "/bin/sh"]
        arguments += ["--name", self.name, *(f"--{each['key']}={each['value']}" for each in parameters)]
        self.arguments = ["run", *arguments, "image", "-c", command]

    def start(self) -> None:
        """Run it as the executor does, in the foreground."""
        command = self.docker.engines.host.command("docker", "-H", self.docker.socket, *self.arguments)
        self.executor = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        give_up = time.monotonic() + 60
        while self.docker("exec", self.name, "/bin/true", check=False).status:
            assert self.executor.poll() is None, self.executor.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.05)

    def run(self) -> tuple[int, str, str]:
        """Run it to its end: status, stdout, stderr of the sandbox."""
        answer = self.docker(*self.arguments, check=False)
        self.docker("rm", "-f", "-v", self.name)
        return answer.status, answer.stdout, answer.stderr

    def seen(self, *probe: str) -> dict:
        return self.docker.exec(self.name, *probe)

    def kill(self) -> None:
        """Stop it as the executor does when its framework kills it, and remove it as the agent does."""
        self.docker("stop", "-t", "0", self.name)
        self.executor.communicate(timeout=60)
        self.docker("rm", "-f", "-v", self.name)


@pytest.fixture
def task(docker):
    """Make a task: task(command, parameters, environment)."""
    made = []

    def task(command: str = "sleep 600", parameters: tuple[dict, ...] = (RUNTIME,), **environment: str) -> Task:
        made.append(Task(docker, command, list(parameters), environment))
        return made[-1]

    yield task
    for each in made:
        executor = getattr(each, "executor", None)
        if executor and executor.poll() is None:
            executor.kill()
            executor.communicate()


def ran(task: Task, simulated, indices: tuple[int, ...]) -> None:
    status, stdout, stderr = task.run()
    assert status == 0, stderr
    assert_reaches({a["do"]: a["value"] for a in map(json.loads, stdout.splitlines())}, simulated, indices)


def probe(simulated) -> str:
    return f"exec /probe {' '.join(reach(simulated))}"


def test_parameter_runtime(task, simulated):
    ran(task(probe(simulated), **CUDA), simulated, (0, 1))
    ran(task(probe(simulated), NVIDIA_VISIBLE_DEVICES="1"), simulated, (1,))


@pytest.mark.parametrize(("value", "indices"), [("all", (0, 1)), ("2", (0, 1)), ('"device=1"', (1,))])
def test_parameter_gpus(task, simulated, value, indices):
    ran(task(probe(simulated), ({"key": "gpus", "value": value},)), simulated, indices)


def test_count_in_the_environment_of_the_task(task, simulated):
    status, stdout, stderr = task(probe(simulated), OCI_GPU_COUNT="1").run()
    assert status == 0, stderr
    seen = {a["do"]: a["value"] for a in map(json.loads, stdout.splitlines())}
    assert [seen[f"open={gpu.node}"] for gpu in simulated.gpus()].count("ENXIO") == 1


def test_default_runtime(docker, task, simulated):
    engines = docker.engines
    before = engines.path("/etc/docker/daemon.json").read_text()
    engines.oci_gpu("install", "docker", "--default", "--directory", engines.libexec)
    docker.daemon.send_signal(signal.SIGHUP)
    try:
        give_up = time.monotonic() + 20
        while json.loads(docker("info", "--format", "{{json .DefaultRuntime}}").stdout) != "oci-gpu":
            assert time.monotonic() < give_up
            time.sleep(0.1)
        ran(task(probe(simulated), (), **CUDA), simulated, (0, 1))
        assert task("test ! -e /dev/nvidia0", ()).run()[0] == 0
    finally:
        engines.write("/etc/docker/daemon.json", before)
        docker.daemon.send_signal(signal.SIGHUP)


def test_task_that_asks_for_nothing(task):
    assert task("test ! -e /dev/nvidia0 -a ! -e /dev/nvidiactl", ()).run()[0] == 0


def test_two_tasks_at_once_hold_different_gpus_and_killed_ones_give_back(docker, task, simulated):
    first, second = task(**ALONE), task(**ALONE)
    first.start()
    second.start()
    held = {lease["container"]: lease["gpus"] for lease in docker.engines.leases()}
    assert sorted(gpu for gpus in held.values() for gpu in gpus) == sorted(gpu.uuid for gpu in simulated.gpus())
    given = []
    for each in (first, second):
        seen = each.seen(*reach(simulated))
        given += [gpu.index for gpu in simulated.gpus() if seen[f"open={gpu.node}"] == "ENXIO"]
        assert_reaches(seen, simulated, (given[-1],))
    assert sorted(given) == [0, 1]
    status, _, stderr = task("true", **ALONE).run()
    assert status != 0
    assert "oci-gpu-runtime: error: " in stderr

    first.kill()
    assert task("true", **ALONE).run()[0] == 0
    second.kill()
    assert docker.engines.leases() == []


def test_executor_that_is_killed_gives_back_when_its_agent_cleans_up(docker, task):
    """Without its client a container runs on, and holds its GPU, until the agent destroys it."""
    lost = task(**ALONE)
    lost.start()
    lost.executor.kill()
    lost.executor.communicate()
    assert len(docker.engines.leases()) == 1
    docker("stop", "-t", "0", lost.name)
    docker("rm", "-f", "-v", lost.name)
    assert docker.engines.leases() == []


def test_task_that_ends_by_itself_gives_back_before_it_is_removed(docker, task):
    for _ in range(3):
        status, _, stderr = task("exit 3", OCI_GPU_COUNT="2", OCI_GPU_EXCLUSIVE="1").run()
        assert status == 3, stderr
    assert docker.engines.leases() == []
