"""`oci-gpu attach` and `detach` interrupted and killed at their steps: all or nothing, now or by whoever comes next."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.attack.test_attach import call, held
from tests.runtime.simulated import SimulatedHost

CHANGING = (
    "mkdirat",
    "write",
    "unlink",
    "rename",
    "symlinkat",
    "mknodat",
    "setns",
    "umount2",
    "move_mount",
    "bpf",
    "fork",
)
NODES = ("open=/dev/nvidia0", "open=/dev/nvidia1")
TAKEN = {"open=/dev/nvidia0": "ENOENT", "open=/dev/nvidia1": "ENOENT"}
GIVEN = dict.fromkeys(NODES, "ENXIO")
pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")


@pytest.fixture
def host(directory):
    """A host of the test's own, with two GPUs."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))


class Trial:
    """A container that has both GPUs or none, on which a command is run under strace."""

    def __init__(self, runtime, host, container, name: str) -> None:
        self.runtime, self.host, self.container, self.name = runtime, host, container, name

    def traced(self, *options: str) -> int:
        path = str(Path(sys.executable).with_name("oci-gpu"))
        which = ("--count", "2") if self.name == "attach" else ("--all",)
        words = (path, "--config", self.host.config, self.name, self.container.id, *which)
        strace = ("strace", "-f", "-qq", *options, *words, "--runtime-root", str(self.runtime.state_dir))
        command = self.runtime.host.command(*strace)
        return subprocess.run(command, capture_output=True, check=False, timeout=120).returncode

    def call(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        return call(self.runtime, self.host, name, *words)

    def ready(self) -> None:
        """Bring the container to where the command begins."""
        leased = held(self.runtime, self.host)
        if self.name == "attach" and leased:
            assert self.call("detach", self.container.id, "--all").returncode == 0
        if self.name == "detach" and len(leased) < len(NODES):
            assert self.call("attach", self.container.id, "--count", "2").returncode == 0

    def opens(self) -> dict[str, str]:
        found: dict[str, str] = self.container.exec("/probe", *NODES).seen()
        return found

    def secretly(self) -> list[str]:
        """What opens by nodes of the container's own."""
        words = [f"mknod=/tmp/n{minor}:195:{minor}" for minor in (0, 1)]
        self.container.exec("/probe", *words)
        seen = self.container.exec("/probe", "open=/tmp/n0", "open=/tmp/n1").seen()
        return [str(each) for each in seen.values()]

    def check(self, said: str) -> None:
        """All or nothing: access, nodes, leases and journal agree."""
        entries = list((self.host.state_dir / "containers").glob("*.json"))
        if held(self.runtime, self.host):
            assert len(held(self.runtime, self.host)) == len(NODES), said
            assert self.opens() == GIVEN, said
            assert self.call("verify", self.container.id).returncode == 0, said
            assert json.loads(entries[0].read_text()).get("changing") is None, said
        else:
            assert self.opens() == TAKEN, said
            assert self.secretly() == ["EPERM", "EPERM"], said
            assert not entries, said


@pytest.fixture
def trial(request, runc, make_bundle, host):
    bundle = make_bundle(args=("/bin/sleep", "1000"), gpus=None, config=host.config)
    with runc.started(bundle) as container:
        made = Trial(runc, host, container, request.param)
        made.ready()
        yield made


def points(trial: Trial, directory: Path, *, full: bool) -> list[tuple[str, int]]:
    """Run the command once; return (call, how many-th) of all that it makes which change something, or of some."""
    trace = directory / "trace"
    calls = ",".join(call for call in CHANGING if call != "fork")
    assert trial.traced("-o", str(trace), "-e", f"trace={calls}") == 0
    made = [match[1] for line in trace.read_text().splitlines() if (match := _CALL.match(line))]
    assert {"rename", "write"} <= {*made}
    found = []
    for name in dict.fromkeys(made):
        count = made.count(name)
        found += [
            (name, number) for number in (range(1, count + 1) if full else sorted({1, 2, (count + 1) // 2, count}))
        ]
    return found


@pytest.mark.parametrize("trial", ["attach", "detach"], indirect=True)
def test_killed_at_each_step(trial, directory, tally, full):
    """What is left is settled by the next attach, detach or repair."""
    for number, (name, nth) in enumerate(points(trial, directory, full=full)):
        trial.ready()
        status = trial.traced(
            "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={nth}"
        )
        tally.count()
        said = f"killed at {name} number {nth}: {status}"
        if number % 3 == 0:
            trial.call("repair", "--all")
        elif number % 3 == 1:
            trial.call("detach", trial.container.id, "--all")
        else:
            trial.call("attach", trial.container.id, "--count", "2")
        trial.check(said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["INT", "TERM", "HUP"])
@pytest.mark.parametrize("trial", ["attach", "detach"], indirect=True)
def test_interrupted_at_each_step(trial, directory, tally, number, full):
    """The command itself brings it to an end."""
    for name, nth in points(trial, directory, full=full):
        trial.ready()
        signalled = f"inject={name}:signal={number.name}:when={nth}"
        status = trial.traced("-o", "/dev/null", "-e", f"trace={name}", "-e", signalled)
        tally.count()
        trial.check(f"{number.name} at {name} number {nth}: {status}")
