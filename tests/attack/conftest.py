"""Every test here is an attack: it asks for `tally`, counts what it tries, and its end is the proof that it failed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.attack.canary import Canary
from tests.attack.sandbox import Sandbox
from tests.attack.served import Served
from tests.runtime import residents
from tests.runtime import rootfs as images
from tests.runtime.host import Host, tree
from tests.runtime.simulated import SimulatedHost

# `make attack` sets this; in `make test` the tables are thinned and the races short.
FULL = bool(os.environ.get("OCI_GPU_ATTACK_FULL"))


@dataclass
class Tally:
    """What `make attack` reports. An escape is an effect outside of the rootfs."""

    tried: int = 0
    refused: int = 0
    escapes: int = 0
    host_changes: int = 0

    def count(self, outcome=None) -> None:
        self.tried += 1
        self.refused += bool(outcome and outcome.refused)


_tally = Tally()


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.attack)


def pytest_terminal_summary(terminalreporter):
    if _tally.tried:
        terminalreporter.write_line(
            f"attacks tried: {_tally.tried} (refused: {_tally.refused}), "
            f"escapes: {_tally.escapes}, host changes: {_tally.host_changes}"
        )


@pytest.fixture(scope="session")
def full() -> bool:
    return FULL


@pytest.fixture
def tally() -> Tally:
    return _tally


@pytest.fixture(scope="session")
def runc(request, machine, hook):
    """runc on this machine, with the cgroups that it finds first."""
    for name, runtime in machine.runtimes.items():
        if name.startswith("runc"):
            if request.config.getoption("--resident"):
                residents.of_host(runtime.host, machine.work, hook)
            return runtime
    pytest.fail(f"runc does not work here: {machine.unavailable}")


@pytest.fixture
def rootfs_named(machine, directory):
    """Return a maker of rootfs, each in its own directory, which is its bundle's."""

    def make(name: str) -> Path:
        (directory / name).mkdir()
        return images.copy(machine.image("debian"), directory / name / "rootfs")

    return make


@pytest.fixture
def canary(directory) -> Canary:
    return Canary(directory / "canary")


@pytest.fixture
def counted(hook, directory):
    return residents.Interpreter(hook, directory)


@pytest.fixture
def served(runc, hook, directory, counted):
    address = directory / "resident" / "socket"
    listening = residents.listen(address)
    front = residents.lay_front(directory / "oci-gpu-hook", hook, address, str(counted.path))
    running = residents.Resident(listening, hook, directory / "said", before=tuple(runc.host.command()))
    running.wait_until_ready()
    yield Served(running, front, address, counted, tuple(runc.host.command()), listening)
    running.end()
    listening.close()


@pytest.fixture
def enter(runc, simulated, hook):
    """Return a maker of sandboxes."""

    def make(rootfs: Path, *systems: str, **options) -> Sandbox:
        options.setdefault("simulated", simulated)
        options.setdefault("systems", systems or ("proc", "dev"))
        options.setdefault("cgroup", runc.cgroup)
        options.setdefault("hook", hook)
        return Sandbox(runc.host, rootfs=rootfs, **options)

    return make


@pytest.fixture(scope="session")
def neighbour(runc):
    """The device cgroup of another container; no hook has any business there."""
    tree = runc.host.path("/sys/fs/cgroup")
    directory = (tree / "devices" if (tree / "devices").is_dir() else tree) / f"{runc.cgroup.strip('/')}-neighbour"
    directory.mkdir()
    if (directory / "devices.deny").exists():
        (directory / "devices.deny").write_text("a")
    yield directory
    directory.rmdir()


@pytest.fixture(autouse=True)
def host_as_before(request):
    """Fail an attack that changes the host: its mounts, the driver's files, another's cgroup, the canary."""
    if "machine" not in request.fixturenames:
        yield
        return
    seen = _Seen(
        request.getfixturevalue("runc").host,
        request.getfixturevalue("simulated"),
        request.getfixturevalue("neighbour"),
    )
    canary = request.getfixturevalue("canary") if "canary" in request.fixturenames else None
    before = seen.now()
    yield
    after = seen.now()
    # Whoever removes a mountpoint's directory, in any namespace, takes the mount away in all: no doing of the hook's.
    kept = [line for line in before["mounts"] if os.path.lexists(seen.host.path(line.split()[4]))]
    before["mounts"] = [line for line in before["mounts"] if line in kept or line in after["mounts"]]
    _tally.host_changes += before != after
    if canary and canary.sealed and not canary.is_untouched():
        _tally.escapes += 1
        pytest.fail("the canary was changed: an escape")
    for what, was in before.items():
        if after[what] != was:
            lines = [f"- {each}" for each in was if each not in after[what]]
            lines += [f"+ {each}" for each in after[what] if each not in was]
            pytest.fail(f"the host's {what} changed: {lines}")


@dataclass
class _Seen:
    """What of the host is compared."""

    host: Host
    simulated: SimulatedHost
    neighbour: Path

    def now(self) -> dict[str, Any]:
        rules = [self.neighbour / "devices.list", self.neighbour.parent / "devices.list"]
        return {
            "mounts": self.host.mounts(),
            "driver": tree(self.simulated.driver_root),
            "nodes": tree(self.simulated.dev),
            "procfs": tree(self.simulated.proc),
            "device rules": [path.read_text() for path in rules if path.exists()],
            "cwd": os.listdir(f"/proc/{os.getpid()}/root"),
        }
