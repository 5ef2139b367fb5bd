"""Real engines, each started once a session, on a machine of their own (machine.py)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from oci_gpu_hook.entrypoints.resident import SOCKET
from tests.cri.pods import Pod
from tests.engines.answer import Answer
from tests.engines.containerd import Containerd
from tests.engines.machine import EngineMachine
from tests.runtime import machine as machines
from tests.runtime import residents

USER = 20010
SUBORDINATE = 300000


def needed(*programs: str) -> None:
    """Skip where a program is not installed."""
    absent = [program for program in programs if not shutil.which(program)]
    if absent:
        pytest.skip(f"not installed: {' '.join(absent)}; run: make test, as root")


@pytest.fixture(scope="session")
def engines(request, machine, simulated):
    """The machine for engines: with this project installed, no engine taught, and its resident if that is asked for."""
    work = machine.work / "engines"
    work.mkdir(mode=0o755)
    made = EngineMachine(work, machine.image("debian"), simulated)
    running = _resident(made) if request.config.getoption("--resident") else None
    yield made
    if running:
        assert not running.has_ended(0.1), running.log.read_text()
        running.end()
    made.close()
    subprocess.run(["rm", "-rf", "--one-file-system", work], check=False)


def _resident(engines: EngineMachine) -> residents.Resident:
    """Start the resident of the executables that engines are taught, where their fronts look for it."""
    engines.oci_gpu("hook-path", "--directory", engines.libexec)
    engines.path("/run/oci-gpu-hook").mkdir(mode=0o700)
    listening = residents.listen(Path(SOCKET), engines.path(SOCKET))
    hook = engines.libexec / "oci-gpu-hook"
    running = residents.Resident(listening, hook, engines.work / "resident.log", before=tuple(engines.host.command()))
    running.wait_until_ready()
    asking = (
        f"import sys; from oci_gpu_hook.entrypoints.resident import asking; sys.exit(not asking.is_ready({SOCKET!r}, "
    )
    engines.run(*engines.python("-c", f"{asking}{str(hook) + '.pyc'!r}))"))
    return running


class Docker:
    """dockerd with its client."""

    def __init__(self, engines: EngineMachine) -> None:
        self.engines = engines
        self.directory = engines.work / "docker"
        self.directory.mkdir()
        self.socket = f"unix://{self.directory}/socket"
        self.settings = ""  # its daemon.json before anything was installed

    def reads_cdi(self) -> bool:
        """Tell whether this version knows CDI specifications."""
        return int(self.engines.run("dockerd", "--version").stdout.split()[2].partition(".")[0]) >= 25

    def start(self) -> None:
        """Start the daemon with what /etc/docker/daemon.json says, and without a network."""
        where = self.directory
        self.daemon = self.engines.start(
            *("dockerd", "--data-root", where / "data", "--exec-root", where / "exec", "-H", self.socket),
            *("--iptables=false", "--bridge=none", "--pidfile", where / "pid", "--cgroup-parent", self.engines.cgroup),
            until=("docker", "-H", self.socket, "info"),
        )
        with subprocess.Popen(["tar", "-C", self.engines.image, "-c", "."], stdout=subprocess.PIPE) as tar:
            self("import", "-", "image", stdin=tar.stdout)

    def __call__(self, *arguments: object, check: bool = True, **options) -> Answer:
        done = self.engines.run("docker", "-H", self.socket, *arguments, check=check, **options)
        return Answer(done.returncode, done.stdout, done.stderr)

    def run(self, *options: str, probe: tuple[str, ...] = (), args: tuple[str, ...] = ()) -> Answer:
        """Run a container of the image to its end."""
        return self("run", "--rm", "--net=none", *options, "image", *(args or ("/probe", *probe)), check=False)

    def detached(self, *options: str) -> str:
        """Start a container that sleeps; return its id."""
        return self("run", "-d", "--net=none", *options, "image", "/bin/sleep", "600").stdout.strip()

    def exec(self, container: str, *probe: str) -> dict:
        """Return what a probe sees in a running container."""
        return self("exec", container, "/probe", *probe).seen()

    def remove_all(self) -> None:
        """Remove every container."""
        containers = self("ps", "-aq").stdout.split()
        if containers:
            self("rm", "-f", *containers)


@pytest.fixture(scope="session")
def docker_daemon(engines):
    needed("dockerd", "docker")
    daemon = Docker(engines)
    cdi = ',\n  "features": {"cdi": true}' if daemon.reads_cdi() else ""  # on by itself since 28.2
    daemon.settings = f'{{\n  "debug": false{cdi}\n}}\n'
    engines.write("/etc/docker/daemon.json", daemon.settings)
    engines.oci_gpu("install", "docker", "--directory", engines.libexec)
    daemon.start()
    yield daemon
    daemon.remove_all()


@pytest.fixture
def docker(docker_daemon):
    """Docker, taught by `oci-gpu install docker`; without containers before and after."""
    yield docker_daemon
    docker_daemon.remove_all()


class Podman:
    """Podman of root or, by a `prefix` that becomes one, of a user."""

    def __init__(self, engines: EngineMachine, *prefix: object, extra: tuple[str, ...] = ()) -> None:
        self.engines = engines
        self.runtime = "crun"
        self._prefix = prefix
        # A machine with few rights refuses the limits that Podman would raise.
        self._options = ("--net=none", "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000", *extra)
        with subprocess.Popen(["tar", "-C", engines.image, "-c", "."], stdout=subprocess.PIPE) as tar:
            self("import", "-", "image", stdin=tar.stdout)

    def __call__(self, *arguments: object, check: bool = True, **options) -> Answer:
        general = ("--cgroup-manager=cgroupfs", "--runtime", self.runtime)
        done = self.engines.run(*self._prefix, *general, *arguments, check=check, **options)
        return Answer(done.returncode, done.stdout, done.stderr)

    def run(self, *options: str, probe: tuple[str, ...] = (), args: tuple[str, ...] = ()) -> Answer:
        """Run a container of the image to its end."""
        command = args or ("/probe", *probe)
        return self("run", "--rm", *self._options, *options, "image", *command, check=False)

    def detached(self, *options: str) -> str:
        """Start a container that sleeps; return its id."""
        return self("run", "-d", *self._options, *options, "image", "/bin/sleep", "600").stdout.strip()

    def exec(self, container: str, *probe: str) -> dict:
        """Return what a probe sees in a running container."""
        return self("exec", container, "/probe", *probe).seen()

    def sends_devices(self) -> bool:
        """Tell whether its `update` has crun set the device rules to a list of Podman's own, without the GPUs."""
        return self.runtime == "crun" and int(self("--version").stdout.split()[-1].partition(".")[0]) >= 5


@pytest.fixture(scope="session")
def podman_installed(engines):
    needed("podman", "conmon")
    engines.oci_gpu("install", "podman", "--directory", engines.libexec)
    return engines


@pytest.fixture(scope="session")
def podman_of_root(podman_installed):
    command = ("podman", "--root", podman_installed.work / "podman")
    return Podman(podman_installed, *command, extra=("--cgroup-parent", f"/{podman_installed.cgroup}"))


@pytest.fixture(params=["crun", "runc"])
def podman(request, podman_of_root):
    """Podman of root with each runtime, taught by `oci-gpu install podman`; without containers afterwards."""
    needed(request.param)
    podman_of_root.runtime = request.param
    yield podman_of_root
    podman_of_root("rm", "-fa", "-t", "0")


@pytest.fixture(scope="session")
def user_podman(podman_installed):
    """Podman of a user without any right, by Podman's and this project's installation for the whole machine."""
    needed("newuidmap", "setpriv", "crun")
    machine = podman_installed
    for name, line in {
        "passwd": f"gpu-user:x:{USER}:{USER}::{machine.work}/user:/bin/sh",
        "group": f"gpu-user:x:{USER}:",
        "subuid": f"gpu-user:{SUBORDINATE}:65536",
        "subgid": f"gpu-user:{SUBORDINATE}:65536",
    }.items():
        file = machine.path(f"/etc/{name}")
        file.write_text(f"{file.read_text() if file.exists() else ''}{line}\n")
    for directory in (machine.work / "user", machine.path(f"/run/user/{USER}")):
        directory.mkdir(mode=0o700, parents=True)
        os.chown(directory, USER, USER)
    environment = (
        f"HOME={machine.work}/user",
        f"XDG_RUNTIME_DIR=/run/user/{USER}",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    )
    become = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env", "-i", *environment)
    podman = Podman(machine, *become, "podman", extra=("--cgroups=disabled",))
    yield podman
    podman("rm", "-fa", "-t", "0")
    machine.kill_user(USER)


@pytest.fixture(scope="session")
def containerd(engines):
    """containerd, taught by `oci-gpu install containerd`."""
    needed("containerd", "ctr")
    daemon = Containerd(engines)
    daemon.configure()
    engines.oci_gpu("install", "containerd", "--file", daemon.config, "--directory", engines.libexec)
    daemon.start()
    yield daemon
    daemon.cri.close()


@pytest.fixture
def pods(containerd):
    """Make pods at containerd's CRI, as a kubelet does, with the RuntimeClass's handler; none stays, and no lease."""
    made: list[Pod] = []

    def make(name: str, annotations: dict[str, str] | None = None, **options) -> Pod:
        made.append(Pod(containerd.kubernetes, name, annotations, **options))
        return made[-1]

    yield make
    for pod in made:
        pod.close()
    assert containerd.engines.leases() == []


def pytest_collection_modifyitems(items):
    for item in items:
        if "engines" in getattr(item, "fixturenames", ()) and os.path.dirname(__file__) in str(item.path):
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session", autouse=True)
def nothing_left():
    """Fail the session when a cgroup of an engine's stays."""
    yield
    if not machines.missing():
        left = [
            directory for directory, _, _ in os.walk("/sys/fs/cgroup") if f"oci-gpu-engines-{os.getpid()}" in directory
        ]
        assert not left
