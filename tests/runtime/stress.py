"""Many containers at once, started and killed at random: what each held and when, told apart from what the record says.

A container holds the GPUs whose nodes are in its /dev, from when it was seen with them until just before it is told to
end: within that time it lives for certain. So two holds that overlap have overlapped, however late the threads look.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.runtime import bundle as bundles
from tests.runtime.fixtures import HOOK_ENVIRONMENT
from tests.runtime.runtimes import Runtime

# How a container comes to its end, and how often of a hundred.
ENDS = {
    "deleted": 34,  # as engines do it
    "killed, deleted": 16,  # the out-of-memory killer, a crash
    "killed, forgotten": 14,  # the engine dies with it: no poststop
    "hook killed at start": 16,  # an engine's time limit
    "hook killed at end": 10,
    "runtime killed at start": 10,
}
_LONGEST_START = 30.0  # seconds


@dataclass(frozen=True)
class Wish:
    """What a container asks for and how it ends. pause: seconds of its life, or until something is killed."""

    annotations: dict[str, str]
    exclusive: bool
    end: str
    pause: float


@dataclass(frozen=True)
class Hold:
    """A container that had these GPUs, by minor, for certain between two times of the monotonic clock."""

    container: str
    minors: frozenset[int]
    exclusive: bool
    since: float
    until: float


@dataclass
class Stress:
    """Starts containers on a runtime; each worker has a rootfs, which all of its containers share."""

    runtime: Runtime
    hook: Path
    config: Path
    directory: Path
    holds: list[Hold] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def live(self, name: str, rootfs: Path, wish: Wish) -> None:
        """Start a container, and end it as it is to end. What must not be is added to `complaints`."""
        bundle = self._bundle(name, rootfs, wish)
        try:
            if self._start(name, bundle, wish):
                self._hold(name, wish)
        except (OSError, AssertionError, subprocess.SubprocessError) as error:
            self.complaints.append(f"{name}: {error!r}")
        finally:
            self._forget(name)

    def _bundle(self, name: str, rootfs: Path, wish: Wish) -> Path:
        directory = self.directory / name
        directory.mkdir()
        arguments = ["oci-gpu-hook", "--config", str(self.config)]
        hooks = {
            stage: [{"path": str(self.hook), "args": [*arguments, stage], "env": HOOK_ENVIRONMENT}]
            for stage in ("prestart", "poststop")
        }
        env = ("NVIDIA_DRIVER_CAPABILITIES=utility",)
        bundle = bundles.make(
            directory, ["/bin/sleep", "600"], rootfs=str(rootfs), annotations=wish.annotations, hooks=hooks, env=env
        )
        bundle.config["linux"]["cgroupsPath"] = f"{self.runtime.cgroup}/{name}"
        bundle.write()
        return directory

    def _start(self, name: str, directory: Path, wish: Wish) -> bool:
        """Return whether the container runs."""
        with open(directory / "out", "w") as out:
            process = subprocess.Popen(
                self._command("run", "--detach", "--pid-file", directory / "pid", "--bundle", directory, name),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        if wish.end == "hook killed at start":
            self._kill_hook(process, wish.pause)
        elif wish.end == "runtime killed at start":
            time.sleep(wish.pause)
            process.kill()
        status = process.wait(timeout=_LONGEST_START)
        if status == 0:
            self.count("started")
            return True
        said = (directory / "out").read_text()
        if " available" in said or "cannot be granted" in said:
            self.count("refused: GPUs are held by others")
        elif wish.end.endswith("killed at start"):
            self.count("did not start: killed")
        else:
            self.complaints.append(f"{name} did not start: {said}")
        return False

    def _hold(self, name: str, wish: Wish) -> None:
        pid = int((self.directory / name / "pid").read_text())
        nodes = os.listdir(f"/proc/{pid}/root/dev")
        minors = frozenset(int(node[6:]) for node in nodes if node.startswith("nvidia") and node[6:].isdigit())
        since = time.monotonic()
        time.sleep(wish.pause)
        assert os.path.exists(f"/proc/{pid}/root/dev"), "a container died that nobody killed"
        until = time.monotonic()
        with self._lock:
            self.holds.append(Hold(name, minors, wish.exclusive, since, until))
        if wish.end.startswith("killed"):
            os.kill(pid, signal.SIGKILL)
            self.count("containers killed")
        if wish.end == "killed, forgotten":
            return
        process = subprocess.Popen(
            self._command("delete", "--force", name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if wish.end == "hook killed at end":
            self._kill_hook(process, wish.pause / 10)
        process.wait(timeout=_LONGEST_START)

    def _kill_hook(self, runtime: subprocess.Popen, delay: float) -> None:
        """Wait for the runtime's hook, let it work for `delay` seconds, and kill it if it still does."""
        while runtime.poll() is None:
            for pid in _children(runtime.pid):
                if b"oci-gpu-hook" in _command_line(pid) or b"/hook\0" in _command_line(pid):
                    time.sleep(delay)
                    if pid in _children(runtime.pid):
                        os.kill(pid, signal.SIGKILL)
                        self.count("hooks killed")
                    return
            time.sleep(0.002)

    def _forget(self, name: str) -> None:
        """Take away what a killed runtime leaves, as a machine's next boot would: by hand, and by no poststop."""
        for path in self.runtime.host.cgroups_named(name):
            for _ in range(200):
                pids = Path(path, "cgroup.procs").read_text().split()
                if not pids:
                    break
                for pid in map(int, pids):
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)
        self.runtime.host.remove_cgroups(name)
        shutil.rmtree(self.runtime.state_dir / name, ignore_errors=True)

    def _command(self, *arguments: object) -> list[str]:
        return self.runtime.host.command(self.runtime.binary, "--root", self.runtime.state_dir, *arguments)


def wish(chance: random.Random, gpus: int) -> Wish:
    """Return a random wish of a host with so many GPUs: by count or by name, alone or shared, patient or not."""
    end = chance.choices([*ENDS], weights=[*ENDS.values()])[0]
    exclusive = chance.random() < 0.6
    asked = {"io.oci-gpu-hook.exclusive": "true"} if exclusive else {}
    if chance.random() < 0.7:
        asked["io.oci-gpu-hook.count"] = str(chance.choice((1, 1, 1, 2, 2, 3)))
        if chance.random() < 0.5:
            asked["io.oci-gpu-hook.wait"] = "10s"
    else:
        asked["io.oci-gpu-hook.devices"] = str(chance.randrange(gpus))
    pause = chance.uniform(0.0, 0.25) if end.endswith("at start") else chance.uniform(0.05, 0.8)
    return Wish(asked, exclusive, end, pause)


def conflicts(holds: list[Hold]) -> list[tuple[Hold, Hold]]:
    """Return the pairs of which one had a GPU for itself alone while the other had it too."""
    found = []
    ordered = sorted(holds, key=lambda hold: hold.since)
    for number, first in enumerate(ordered):
        for second in ordered[number + 1 :]:
            if second.since >= first.until:
                break
            if (first.exclusive or second.exclusive) and first.minors & second.minors:
                found.append((first, second))
    return found


def contradictions(record: bytes) -> list[str]:
    """Return the GPUs that a record gives to one container alone and to another too."""
    holders: dict[str, list[bool]] = {}
    for lease in json.loads(record)["leases"]:
        for device in lease["devices"]:
            holders.setdefault(device["gpu"], []).append(lease["exclusive"])
    return [gpu for gpu, exclusive in holders.items() if len(exclusive) > 1 and any(exclusive)]


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found |= set(map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split()))
    except (OSError, ValueError):
        pass
    return found


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
