"""Mesos' Docker containerizer: dockerd, called by a stand-in for mesos-docker-executor, which an agent starts.

Of Mesos 1.11: flags and environment of the executor, the arguments of `docker run` in their order with the parameters
that the task gives in ContainerInfo.docker.parameters, and what an agent does that comes up again.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from tests.runtime.fixtures import oci_gpu
from tests.runtime.simulated import SimulatedHost
from tests.runtime.test_devices import assert_reaches, reach
from tests.runtime.vendors import HABANA, Vendors, opens

RUNTIME = {"key": "runtime", "value": "oci-gpu"}
ALONE = {"OCI_GPU_COUNT": "1", "OCI_GPU_EXCLUSIVE": "true"}
CUDA = {"NVIDIA_VISIBLE_DEVICES": "all"}
EXECUTOR = Path(__file__).with_name("mesos_docker_executor.py")
# What an agent sets for each executor, as recorded in tests/data/mesos/launches.json.
OF_THE_AGENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LIBPROCESS_IP": "127.0.0.1",
    "LIBPROCESS_PORT": "0",
    "MESOS_AGENT_ENDPOINT": "127.0.0.1:5051",
    "MESOS_CHECKPOINT": "1",
    "MESOS_EXECUTOR_ID": "e",
    "MESOS_FRAMEWORK_ID": "F0",
}


class Task:
    """A task of the Docker containerizer, from the start of its executor to the agent's `docker rm`."""

    def __init__(self, docker, command: str, parameters: list[dict], environment: dict[str, str]) -> None:
        self.docker = docker
        self.name = f"mesos-{uuid.uuid4()}"
        self.sandbox: Path = docker.directory / self.name
        self.sandbox.mkdir()
        task = {"image": "image", "command": command, "parameters": parameters, "environment": environment}
        flags = {
            "cgroups_enable_cfs": "false",
            "container": self.name,
            "docker": "docker",
            "docker_socket": docker.socket.removeprefix("unix://"),
            "launcher_dir": "/usr/libexec/mesos",
            "mapped_directory": "/mnt/mesos/sandbox",
            "sandbox_directory": str(self.sandbox),
            "stop_timeout": "0secs",
            "task_environment": "{}",
            "task": json.dumps(task),
        }
        # The executor's environment is the agent's for it and the task's own.
        variables = [f"{name}={value}" for name, value in {**OF_THE_AGENT, **environment}.items()]
        program = ("env", "-i", "-C", self.sandbox, *variables, "setsid", "/usr/bin/python3", "-ISB", EXECUTOR)
        self.command = docker.engines.host.command(*program, *(f"--{name}={text}" for name, text in flags.items()))
        self.executor: subprocess.Popen | None = None

    def launch(self) -> None:
        """Start the executor."""
        self.executor = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def start(self) -> None:
        """Start it, and wait until it runs."""
        self.launch()
        give_up = time.monotonic() + 60
        while "TASK_RUNNING" not in self.updates():
            assert self.executor
            assert self.executor.poll() is None, (self.executor.communicate(), self.text("stderr"))
            assert time.monotonic() < give_up
            time.sleep(0.05)

    def run(self) -> tuple[int, str, str]:
        """Run it to its end: status, stdout, stderr of the sandbox."""
        self.launch()
        self.wait()
        self.remove()
        return int(self.updates()[-1].rpartition(" ")[2]), self.text("stdout"), self.text("stderr")

    def wait(self) -> None:
        assert self.executor
        _, stderr = self.executor.communicate(timeout=120)
        assert "Traceback" not in stderr, stderr

    def text(self, name: str) -> str:
        path = self.sandbox / name
        return path.read_text() if path.exists() else ""

    def updates(self) -> list[str]:
        """Return what the executor has told its agent."""
        return self.text("updates").splitlines()

    def seen(self, *probe: str) -> dict:
        return self.docker.exec(self.name, *probe)

    def kill(self) -> None:
        """Have it killed by its executor, as its framework does, and remove it as the agent does."""
        assert self.executor
        self.executor.send_signal(signal.SIGTERM)
        self.wait()
        self.remove()

    def lose_executor(self) -> None:
        assert self.executor
        self.executor.kill()
        self.executor.communicate()

    def remove(self) -> None:
        self.docker("rm", "-f", "-v", self.name)


def recover(docker, tasks: list[Task]) -> list[str]:
    """Do what an agent does that comes up again: it stops and removes containers whose executor is gone; says which.

    That is with --docker_kill_orphans, the default. Those whose executor lives are left to it.
    """
    known = {task.name for task in tasks if task.executor and task.executor.poll() is None}
    names = docker("ps", "-a", "--filter", "name=^/mesos-", "--format", "{{.Names}}").stdout.split()
    orphans = [name for name in names if name not in known]
    for name in orphans:
        docker("stop", "-t", "0", name, check=False)
        docker("rm", "-f", "-v", name)
    return orphans


@pytest.fixture
def task(docker):
    """Make a task: task(command, parameters, environment)."""
    made = []

    def task(command: str = "sleep 600", parameters: tuple[dict, ...] = (RUNTIME,), **environment: str) -> Task:
        made.append(Task(docker, command, list(parameters), environment))
        return made[-1]

    yield task
    for each in made:
        if each.executor and each.executor.poll() is None:
            each.lose_executor()


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
    lost.lose_executor()
    assert len(docker.engines.leases()) == 1
    docker("stop", "-t", "0", lost.name)
    lost.remove()
    assert docker.engines.leases() == []


def test_what_the_executor_tells_its_agent(task):
    finished, failed, refused, killed = (
        *(task("true", **ALONE), task("exit 3", **ALONE)),
        *(task("true", NVIDIA_VISIBLE_DEVICES="7"), task(**ALONE)),
    )
    for each in (finished, failed, refused):
        each.run()
    killed.start()
    killed.kill()
    ends = [each.updates()[-1].split()[0] for each in (finished, failed, refused, killed)]
    assert ends == ["TASK_FINISHED", "TASK_FAILED", "TASK_FAILED", "TASK_KILLED"]
    assert "oci-gpu-runtime: error: unknown device '7'" in refused.text("stderr")
    assert refused.updates()[0] == "TASK_STARTING"
    assert "TASK_RUNNING" not in refused.updates()


def test_agent_that_comes_up_again_leaves_what_has_an_executor_and_destroys_what_has_none(docker, task, simulated):
    kept, lost = task(**ALONE), task(**ALONE)
    kept.start()
    lost.start()
    lost.lose_executor()
    held = docker.engines.leases()
    assert len(held) == 2
    assert recover(docker, [kept, lost]) == [lost.name]
    (left,) = docker.engines.leases()
    assert left in held
    seen = kept.seen(*reach(simulated))
    reached = [gpu for gpu in simulated.gpus() if seen[f"open={gpu.node}"] == "ENXIO"]
    assert [gpu.uuid for gpu in reached] == left["gpus"]
    assert task("true", **ALONE).run()[0] == 0
    assert recover(docker, [kept, lost]) == []
    kept.kill()
    assert docker.engines.leases() == []


def test_launch_whose_executor_is_killed_at_any_moment_leaves_nothing_held(docker, task):
    """dockerd may start the container all the same, when its client is gone: the agent destroys what it finds."""
    for tenth in range(0, 16, 3):
        lost = task(**ALONE)
        lost.launch()
        time.sleep(tenth / 10)
        lost.lose_executor()
        give_up = time.monotonic() + 30
        while recover(docker, [lost]) or docker.engines.leases():
            assert time.monotonic() < give_up
            time.sleep(0.2)
    assert task("true", OCI_GPU_COUNT="2", OCI_GPU_EXCLUSIVE="1").run()[0] == 0


def test_task_that_waits_for_a_gpu(docker, task):
    """The wait is dockerd's, in `docker run`: the executor sees no container run, and tells of none."""
    first, second, waiting = task(**ALONE), task(**ALONE), task("sleep 600", **ALONE, OCI_GPU_WAIT="60")
    first.start()
    second.start()
    waiting.launch()
    time.sleep(2)
    assert waiting.updates() == ["TASK_STARTING"]
    first.kill()
    give_up = time.monotonic() + 30
    while "TASK_RUNNING" not in waiting.updates():
        assert time.monotonic() < give_up
        time.sleep(0.1)
    assert len(docker.engines.leases()) == 2
    for each in (second, waiting):
        each.kill()
    assert docker.engines.leases() == []


def test_task_that_ends_by_itself_gives_back_before_it_is_removed(docker, task):
    for _ in range(3):
        status, _, stderr = task("exit 3", OCI_GPU_COUNT="2", OCI_GPU_EXCLUSIVE="1").run()
        assert status == 3, stderr
    assert docker.engines.leases() == []


def test_devices_of_cdi_files_with_their_variables_and_hooks(docker, task):
    """Those, too, that the unified containerizer's door cannot make: a hook after the task's end."""
    vendors = Vendors(docker.directory / "vendors")
    vendors.directory.mkdir(mode=0o755)
    vendors.make()
    said = docker.directory / "said"
    hook = docker.directory / "hook"
    hook.write_text(f"#!/bin/sh\necho $MINE > {said}\n")
    hook.chmod(0o755)
    document = json.loads((vendors.specs / "habana.json").read_text())
    document["containerEdits"]["hooks"] = [{"hookName": "poststop", "path": str(hook), "env": ["MINE=1"]}]
    docker.engines.write("/etc/cdi/habana.json", json.dumps(document))
    try:
        probes = [*opens("accel/accel0", "accel/accel1"), "getenv=HABANA_MODULE", "getenv=HABANA_LOGS"]
        status, stdout, stderr = task(f"exec /probe {' '.join(probes)}", OCI_GPU_DEVICES=f"{HABANA}=1").run()
        assert status == 0, stderr
        assert [answer["value"] for answer in map(json.loads, stdout.splitlines())] == [
            "ENOENT",
            "ENXIO",
            "1",
            "/var/log/habana_logs",
        ]
        assert said.read_text() == "1\n"
    finally:
        docker.engines.path("/etc/cdi/habana.json").unlink()


@pytest.mark.parametrize(
    "asked",
    [{"AMD_VISIBLE_DEVICES": "1"}, {"OCI_GPU_COUNT": "1", "OCI_GPU_KIND": "amd.com/gpu"}],
    ids=["name", "count"],
)
def test_amds_gpus(docker, task, machine, simulated, asked):
    directory = machine.work / "mesos-docker-amd"
    if not directory.exists():
        oci_gpu("simulate", directory, "--platform", "nvidia,amd", "--gpus", "2")
    host = SimulatedHost(directory)
    renders = sorted(path.name for path in (host.dev / "dri").glob("renderD*"))[-2:]
    docker.engines.write("/etc/oci-gpu-hook/config.toml", host.config.read_text())
    try:
        nodes = ["kfd", *(f"dri/{name}" for name in renders), "nvidia0", "nvidiactl"]
        status, stdout, stderr = task(f"exec /probe {' '.join(opens(*nodes))}", **asked).run()
        assert status == 0, stderr
        seen = [answer["value"] for answer in map(json.loads, stdout.splitlines())]
        given = ["ENOENT", "ENXIO"] if "AMD_VISIBLE_DEVICES" in asked else ["ENXIO", "ENOENT"]
        assert seen == ["ENXIO", *given, "ENOENT", "ENOENT"]
    finally:
        docker.engines.write("/etc/oci-gpu-hook/config.toml", simulated.config.read_text())
