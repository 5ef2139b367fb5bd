"""Fixtures: a launcher directory with the front installed over stand-ins of Mesos' programs, and agents that use it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest

from tests.runtime.fixtures import oci_gpu
from tests.runtime.host import Host
from tests.runtime.simulated import SimulatedHost

HERE = Path(__file__).parent
STAND_INS = {"mesos-containerizer": "helper.py", "mesos-executor": "executor.py"}
CUDA = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
}


def remove(cgroup: Path) -> None:
    """Remove a cgroup and those below it, once the processes that were killed in them have ended."""
    give_up = time.monotonic() + 20
    while cgroup.exists():
        try:
            for path in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
                path.rmdir()
            cgroup.rmdir()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)


@pytest.fixture(scope="session")
def host(machine):
    """A mount namespace with cgroup v1, in which the agents run."""
    for runtime in machine.runtimes.values():
        if runtime.host.layout == "v1":
            yield runtime.host
            for hierarchy in ("freezer", "devices"):
                cgroup = runtime.host.path(f"/sys/fs/cgroup/{hierarchy}/mesos")
                if cgroup.exists():
                    remove(cgroup)
            return
    pytest.skip("runc on cgroup v1 does not work here, and no Mesos agent would")


@pytest.fixture(scope="session")
def real_launcher(machine) -> Path:
    """What packages of Mesos install as /usr/libexec/mesos: here, stand-ins."""
    directory = machine.work / "libexec-mesos"
    directory.mkdir()
    for module in STAND_INS.values():
        shutil.copy(HERE / module, directory)
    (directory / "tests/mesos").mkdir(parents=True)
    shutil.copy(HERE / "linux.py", directory / "tests/mesos")
    for name, module in STAND_INS.items():
        text = (HERE / module).read_text()
        (directory / name).write_text(f"#!/usr/bin/python3 -ISB\n{text}")
        (directory / name).chmod(0o755)
    (directory / "mesos-fetcher").write_text("#!/bin/sh\n")
    (directory / "mesos-fetcher").chmod(0o755)
    return directory


@pytest.fixture(scope="session")
def launcher(machine, real_launcher, simulated) -> Path:
    """The launcher directory that the product installs."""
    directory = machine.work / "libexec-mesos-gpu"
    arguments = ("install", "mesos", "--launcher-dir", real_launcher, "--output", directory)
    oci_gpu("--config", simulated.config, *arguments)
    return directory


@pytest.fixture(scope="session")
def image(machine):
    """Make a docker-archive tar of an image: image(variant, environment) -> its path."""

    def image(variant: str = "debian", environment: dict[str, str] | None = None) -> str:
        environment = CUDA if environment is None else environment
        path = machine.work / f"{variant}-{abs(hash(json.dumps(environment)))}.tar"
        if not path.exists():
            layer = BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as archive:
                archive.add(machine.image(variant), arcname=".")
            config = {"config": {"Env": [f"{name}={value}" for name, value in environment.items()]}}
            members = {"layer.tar": layer.getvalue(), "config.json": json.dumps(config).encode()}
            manifest = [{"Config": "config.json", "RepoTags": ["test:latest"], "Layers": ["layer.tar"]}]
            with tarfile.open(path, "w") as archive:
                for name, data in {**members, "manifest.json": json.dumps(manifest).encode()}.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, BytesIO(data))
        return str(path)

    return image


@dataclass
class Ended:
    """A container that has ended."""

    id: str
    status: int
    stdout: str
    stderr: str
    updates: list[str]  # what the executor of a command task has told its agent

    def seen(self) -> dict:
        """Return the probe's answers by what it was asked. Fails the test when the container did not end well."""
        assert self.status == 0, f"exit {self.status}\nstdout: {self.stdout}\nstderr: {self.stderr}"
        answers = [json.loads(line) for line in self.stdout.splitlines() if line.startswith("{")]
        return {answer["do"]: answer["value"] for answer in answers}

    def complaint(self) -> str:
        """Return the one line of the failure. Fails the test when the container's command was started."""
        assert self.status != 0, f"the container ran\nstdout: {self.stdout}\nstderr: {self.stderr}"
        assert self.stderr.count("oci-gpu-hook: error: ") == 1, self.stderr
        assert "Traceback" not in self.stderr, self.stderr
        return self.stderr.partition("oci-gpu-hook: error: ")[2].splitlines()[0]


def ended(lines: str) -> list[Ended]:
    """Return the containers of which an agent says that they have ended."""
    return [Ended(**json.loads(line)) for line in lines.splitlines()]


@dataclass
class Running:
    """An agent at work on a container."""

    process: subprocess.Popen
    mesos: Mesos
    id: str

    def stdout(self, nested: str = "") -> str:
        path = self.mesos.directory / "agent/slaves/S0/frameworks/F0/executors/e/runs" / self.id
        path = path / f"containers/{nested}/stdout" if nested else path / "stdout"
        return path.read_text() if path.exists() else ""

    def wait_for(self, text: str, nested: str = "", seconds: float = 30) -> str:
        """Wait until the container, or one nested in it, has written something."""
        deadline = time.monotonic() + seconds
        while text not in self.stdout(nested):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, self.stdout(nested)
            time.sleep(0.02)
        return self.stdout(nested)

    def end(self, timeout: float = 60) -> list[Ended]:
        """Wait for the end, and return the containers in the order in which they ended."""
        stdout, stderr = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, stderr
        assert "Traceback" not in stderr, stderr
        return ended(stdout)

    def kill(self) -> list[Ended]:
        """Kill the container, and return what the agent says of its end."""
        while not (self.mesos.directory / "agent/meta" / self.id).exists():
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def kill_agent(self) -> None:
        """Kill the agent alone: its containers run on."""
        self.process.kill()  # nsenter has become the agent
        self.wait_for_dead_agent()

    def wait_for_dead_agent(self) -> None:
        assert self.process.wait(timeout=30) == -signal.SIGKILL, self.process.communicate()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()

    def processes(self, nested: str = "") -> dict[int, list[str]]:
        """Return the processes of the container and of those in it, or of one nested in it, with their arguments."""
        path = self.mesos.host.path(f"/sys/fs/cgroup/freezer/mesos/{self.id}" + (f"/mesos/{nested}" if nested else ""))
        found = {}
        for directory, _, _ in os.walk(path):
            for pid in map(int, Path(directory, "cgroup.procs").read_text().split()):
                try:
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1]
                except OSError:
                    continue
        return found

    def signal(self, word: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to the one process of the container with an argument that ends so."""
        (pid,) = [pid for pid, argv in self.processes().items() if any(each.endswith(word) for each in argv[:3])]
        os.kill(pid, number)


@dataclass
class Recovered:
    """An agent that has come up where others were killed: which containers it has taken over, which destroyed."""

    process: subprocess.Popen
    recovered: set[str]
    destroyed: set[str]

    def end(self, *, kill: bool = False) -> dict[str, Ended]:
        """Wait for the ends of those that it has taken over, or have them killed; by id."""
        if kill and self.recovered:
            self.process.send_signal(signal.SIGTERM)
        stdout, stderr = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, stderr
        return {each.id: each for each in ended(stdout)}


@dataclass
class Mesos:
    """Launches containers as an agent does, in a directory of the test's."""

    host: Host
    directory: Path
    launcher: Path
    simulated: SimulatedHost
    image: Callable[..., str]
    started: list[Running] = field(default_factory=list)
    agents: list[subprocess.Popen] = field(default_factory=list)  # those that came up again

    def start(
        self, *probe: str, seal: bool = False, launcher: Path | None = None, dies: str = "", **options
    ) -> Running:
        """Start a container whose process is the probe with these arguments; options are those of agent.Container.

        dies: the step of the launch at which the agent is killed (launched.STEPS).
        """
        container = {"id": str(uuid.uuid4()), "image": self.image(), **options}
        container = self.filled(container, probe)
        nested = [{"kind": "custom", **each} for each in container.get("nested", [])]
        container["nested"] = [self.filled(each, each.pop("probe", ())) for each in nested]
        spec = {"launcher": str(launcher or self.launcher), "seal": seal, "dies": dies, "container": container}
        self.started.append(Running(self.agent(spec), self, container["id"]))
        return self.started[-1]

    def recover(self, sessions: dict[str, tuple[str, ...]] | None = None) -> Recovered:
        """Start an agent again after all that were at work here have been killed.

        sessions: probes that it runs in debug containers of those that it has taken over, by their id.
        """
        assert all(running.process.poll() is not None for running in self.started)
        debug = {name: f"/probe {' '.join(probe)}" for name, probe in (sessions or {}).items()}
        spec = {"launcher": str(self.launcher), "seal": False, "dies": "", "recover": True, "sessions": debug}
        process = self.agent(spec)
        self.agents.append(process)
        assert process.stdout
        line = process.stdout.readline()
        assert line, process.communicate()
        said = json.loads(line)
        return Recovered(process, set(said["recovered"]), set(said["destroyed"]))

    def agent(self, spec: dict) -> subprocess.Popen:
        nodes = sorted(
            str(path) for path in self.simulated.dev.iterdir() if path.name.startswith("nvidia") and not path.is_dir()
        )
        path = self.directory / f"{uuid.uuid4()}.json"
        path.write_text(json.dumps({"directory": str(self.directory), "nodes": nodes, "recover": False, **spec}))
        command = self.host.command("/usr/bin/python3", "-ISB", HERE / "agent.py", path)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def filled(self, container: dict, probe: tuple[str, ...]) -> dict:
        command = {"shell": False, "value": "/probe", "arguments": ["/probe", *probe]}
        return {"command": command, **container}

    def run(self, *probe: str, **options) -> Ended:
        """Run a container to its end."""
        return self.start(*probe, **options).end()[-1]


@pytest.fixture
def mesos(host, directory, launcher, simulated, image):
    """See Mesos. Afterwards no container, cgroup, mount or bundle of it is left."""
    mounts = host.mounts()
    mesos = Mesos(host, directory, launcher, simulated, image)
    yield mesos
    for process in (*(running.process for running in mesos.started), *mesos.agents):
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=30)
    assert host.mounts() == mounts
    for hierarchy in ("freezer", "devices"):
        assert not any(
            host.path(f"/sys/fs/cgroup/{hierarchy}/mesos/{running.id}").exists() for running in mesos.started
        )


def leases(simulated) -> dict[str, list[str]]:
    """Return who holds which GPU."""
    found = json.loads(oci_gpu("--config", simulated.config, "leases", "--json"))
    return {lease["container"]: lease["gpus"] for lease in found}
