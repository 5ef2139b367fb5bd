"""Fixtures for every test that starts real containers, wherever it stands.

A test that asks for `runtime` runs once per runtime and cgroup layout that this machine offers, and fails when the host
is not afterwards as it was before. All such tests carry the marker `root`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from tests.runtime import bundle as bundles
from tests.runtime import host as hosts
from tests.runtime import machine as machines
from tests.runtime import residents, sharing
from tests.runtime import rootfs as images
from tests.runtime.simulated import SimulatedHost

HOOK_ENVIRONMENT = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]


def pytest_generate_tests(metafunc):
    if "runtime" in metafunc.fixturenames:
        names = [] if machines.missing() else list(machines.this().runtimes)
        metafunc.parametrize("runtime", names or ["none"], indirect=True, scope="session")


def pytest_collection_modifyitems(items):
    for item in items:
        if "machine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.root)


def pytest_unconfigure():
    residents.close()
    machines.close()


@pytest.fixture(scope="session")
def machine():
    """The machine as a place for containers; skips where it is none."""
    if reason := machines.missing():
        pytest.skip(reason)
    return machines.this()


@pytest.fixture(scope="session")
def runtime(request, machine):
    """Each runtime that works here, on its host."""
    if request.param == "none":
        pytest.fail(f"no container runtime works here: {machine.unavailable}")
    found = machine.runtimes[request.param]
    if request.config.getoption("--resident"):
        residents.of_host(found.host, machine.work, Path(oci_gpu("hook-path").strip()))
    return found


@pytest.fixture(scope="session")
def simulated(machine) -> SimulatedHost:
    """A host with two GPUs, made by the product's own command. Tests that break it take a copy."""
    directory = machine.work / "host"
    oci_gpu("simulate", directory, "--gpus", "2")
    return SimulatedHost(directory)


@pytest.fixture
def sharing_host(simulated, directory):
    """A host of the test's own, whose MPS daemons end with their containers."""
    made = simulated.copy(directory / "h")
    yield made
    assert sharing.daemons(made) == [], "an MPS daemon has outlived its container"


@pytest.fixture(scope="session")
def python_hook() -> Path:
    """The executable that operators register, as where no resident is: for tests of the process that it becomes."""
    return Path(oci_gpu("hook-path").strip())


@pytest.fixture(scope="session")
def hook(request, machine, python_hook) -> Path:
    """The executable that operators register; with --resident a copy that asks the resident of its host."""
    installed = python_hook
    if not request.config.getoption("--resident"):
        return installed
    copy = machine.work / "libexec-resident" / "oci-gpu-hook"
    copy.parent.mkdir()
    shutil.copy(f"{installed}.py", f"{copy}.py")
    return residents.lay_front(copy, installed, residents.address_below(machine.work))


def oci_gpu(*arguments: object) -> str:
    """Run the command for people, as installed beside this interpreter; return its stdout."""
    command = [str(Path(sys.executable).with_name("oci-gpu")), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=250).stdout


@pytest.fixture
def directory(machine):
    """An empty directory on the machine's disk that containers of any user namespace can reach."""
    path = machine.work / f"test-{uuid.uuid4().hex[:8]}"
    path.mkdir(mode=0o755)
    yield path
    subprocess.run(["rm", "-rf", "--one-file-system", path], check=True)


@dataclass
class Bundler:
    """Makes bundles below a test's directory, with the hook registered as an operator would."""

    machine: machines.Machine
    directory: Path
    hook: Path
    host: SimulatedHost

    def __call__(
        self,
        *probe: str,
        env: tuple[str, ...] = (),
        image: str = "debian",
        gpus: str | None = None,
        stage: str = "prestart",
        name: str = "bundle",
        config: Path | None = None,
        args: tuple[str, ...] = (),
        **options,
    ) -> bundles.Bundle:
        """Make a bundle whose process is the probe with these arguments, or `args`; `gpus` asks as Docker users do."""
        directory = self.directory / name
        directory.mkdir()
        if "rootfs" not in options:
            root = images.copy(self.machine.image(image), directory / "rootfs")
            if options.get("user_namespace"):
                images.shift(root, bundles.FIRST_ID)
        if gpus is not None:
            env = (*env, f"NVIDIA_VISIBLE_DEVICES={gpus}", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
        hooks = {stage: [self.entry(stage, config)], "poststop": [self.entry("poststop", config)]}
        return bundles.make(directory, list(args or ("/probe", *probe)), env=env, hooks=hooks, **options)

    def entry(self, stage: str, config: Path | None = None) -> dict:
        """Return the hook's entry for config.json."""
        arguments = ["oci-gpu-hook", "--config", str(config or self.host.config), stage]
        return {"path": str(self.hook), "args": arguments, "env": HOOK_ENVIRONMENT}


@pytest.fixture
def make_bundle(machine, directory, hook, simulated) -> Bundler:
    """The maker of bundles for the simulated host; see Bundler."""
    return Bundler(machine, directory, hook, simulated)


@pytest.fixture
def host_unchanged(request, runtime):
    """Fail a test that leaves anything on the host: a mount, a changed driver file, a node."""
    watched = []
    if "simulated" in request.fixturenames:
        host = request.getfixturevalue("simulated")
        watched = [host.driver_root, host.dev, host.proc]
    before = (runtime.host.mounts(), [hosts.tree(root) for root in watched])
    yield
    assert runtime.host.mounts() == before[0]
    for root, was in zip(watched, before[1], strict=True):
        assert hosts.difference(was, hosts.tree(root)) == []


@pytest.fixture
def configured(runtime, directory, simulated):
    """The simulated host's configuration in its usual place, for as long as the test runs."""
    layers = directory / "etc"
    layers.mkdir()
    runtime.host.call("mount", "-t", "tmpfs", "tmpfs", layers)
    for name in ("upper/oci-gpu-hook", "work"):
        runtime.host.path(layers / name).mkdir(parents=True)
    (runtime.host.path(layers) / "upper/oci-gpu-hook/config.toml").write_bytes(simulated.config.read_bytes())
    options = f"lowerdir=/etc,upperdir={layers}/upper,workdir={layers}/work"
    runtime.host.call("mount", "-t", "overlay", "overlay", "-o", options, "/etc")
    yield
    runtime.host.call("umount", "/etc")
    runtime.host.call("umount", layers)


@pytest.fixture(scope="session")
def front_path(machine, runtime) -> str:
    """The executable oci-gpu-runtime before the runtime of this test run."""
    return _front_before(runtime.binary, machine.work)


@cache  # one serves all cgroup layouts, and to install it takes seconds
def _front_before(program: str, work: Path) -> str:
    directory = work / f"libexec-{Path(program).name}"
    return oci_gpu("hook-path", "--runtime", "--directory", directory, "--real-runtime", program).strip()


@pytest.fixture
def front(runtime, front_path, configured):
    """The runtime of this test run with oci-gpu-runtime before it."""
    return replace(runtime, binary=front_path)


@pytest.fixture
def plain_bundle(make_bundle):
    """Make a bundle as an engine does that knows nothing of hooks."""

    def make(*probe, **options):
        bundle = make_bundle(*probe, **options)
        del bundle.config["hooks"]
        return bundle

    return make
