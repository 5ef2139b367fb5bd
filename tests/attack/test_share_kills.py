"""Starts of containers with a part of a GPU, killed at each step: the hook, its child, the daemon, its server, all.

Whatever was killed, when the container has ended and the next one starts, no daemon is left, no file, no cgroup and no
process that waits.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.attack.sandbox import ENVIRONMENT, Outcome
from tests.runtime import rootfs as images
from tests.runtime.host import contents, difference
from tests.runtime.sharing import SHARE, daemons, nothing_is_left, settle, shares, watchers

pytestmark = pytest.mark.root
CHANGING = ("mkdir", "openat", "write", "fork", "clone", "wait4", "mknodat", "move_mount", "mount_setattr", "setns")
MOMENTS = 12  # at which whoever it is is killed, from a start's begin to its end
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")


@pytest.fixture
def host(sharing_host):
    return sharing_host


@pytest.fixture
def rootfs(machine, directory):
    return images.copy(machine.image("debian"), directory / "rootfs")


@pytest.fixture(scope="session")
def hook(python_hook):
    """The process is the hook, which strace and `watchers` find: a worker of the resident is another one."""
    return python_hook


class Starts:
    """Starts of one rootfs, each of which is brought to an end; and the next start, which clears up."""

    def __init__(self, enter, rootfs, host, runc) -> None:
        self.enter, self.rootfs, self.host, self.runc = enter, rootfs, host, runc
        with self.begin() as sandbox:  # the first makes the inventory
            assert not sandbox.attach().refused
        sandbox.release()
        self.ended()
        self.before = contents(runc.host.path(rootfs))

    def begin(self):
        return self.enter(self.rootfs, env=SHARE, simulated=self.host)

    def ended(self) -> None:
        settle(lambda: nothing_is_left(self.host))

    def end(self, sandbox, said: str) -> None:
        """Have the engine's poststop, and the next container, clear up."""
        assert not sandbox.release().refused, said
        with self.begin() as again:
            assert not again.attach().refused, said
            assert len(shares(self.host)) == 1, said
        assert not again.release().refused, said
        self.ended()
        assert self.cgroups(sandbox, again) == [], said
        assert difference(self.before, contents(self.runc.host.path(self.rootfs))) == [], said
        assert sandbox.id not in (self.host.state_dir / "leases.json").read_text(), said

    def cgroups(self, *sandboxes) -> list[str]:
        """Return the cgroups of these containers' daemons, in whatever hierarchy."""
        tree = self.runc.host.path("/sys/fs/cgroup")
        found = [*tree.glob("oci-gpu-hook/*-*"), *tree.glob("*/oci-gpu-hook/*-*")]
        own = tuple(f"{sandbox.pid}-" for sandbox in sandboxes)
        return [str(path) for path in found if path.name.startswith(own)]


@pytest.fixture
def starts(enter, rootfs, host, runc):
    return Starts(enter, rootfs, host, runc)


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_hook_that_is_killed_at_each_call(starts, directory, tally, full):
    """Its child and the daemon go on: the child dies with it, the daemon ends with the container."""
    with starts.begin() as sandbox:
        trace = directory / "trace"
        traced(sandbox, "-o", str(trace), "-e", f"trace={','.join(CHANGING)}")
    starts.end(sandbox, "traced")
    made = [match[1] for line in trace.read_text().splitlines() if (match := _CALL.match(line))]
    killed = 0
    for call in dict.fromkeys(made):
        count = made.count(call)
        for nth in range(1, count + 1) if full else sorted({max(1, count // 2), count}):
            with starts.begin() as sandbox:
                inject = ("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={nth}")
                status = traced(sandbox, "-o", "/dev/null", *inject)
                killed += status == -signal.SIGKILL
                tally.count()
            starts.end(sandbox, f"killed at {call} number {nth}: {status}")
    assert killed > 5


def traced(sandbox, *options: str) -> int:
    """Run the hook, and not what it starts, under strace."""
    strace = ["strace", "-qq", *options, *sandbox.command("prestart")]
    done = subprocess.run(
        strace, input=sandbox.state(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
        check=False, timeout=60,
    )  # fmt: skip
    return done.returncode


def all_but_the_container(host) -> list[int]:
    return [*watchers(host), *daemons(host)]


def children(host) -> list[int]:
    """Return the processes that bring a daemon up, or end one: hook's processes whose parent is none of the hook's."""
    found = watchers(host)
    return [pid for pid in found if parent(pid) in found]


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


# Seconds from moment to moment, counted from when they come up.
STEPS = {children: 0.006, daemons: 0.002, watchers: 0.02, all_but_the_container: 0.02}


@pytest.mark.parametrize("whom", STEPS)
def test_whoever_is_killed_at_any_moment(whom, starts, host, tally):
    """A start that fails for it says so; one that does not gives the container what it asked for."""
    for moment in range(MOMENTS):
        with starts.begin() as sandbox:
            hook = subprocess.Popen(
                sandbox.command("prestart"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=ENVIRONMENT,
            )  # fmt: skip
            assert hook.stdin
            hook.stdin.write(sandbox.state())
            hook.stdin.close()
            while not whom(host) and hook.poll() is None:
                continue
            time.sleep(moment * STEPS[whom])
            for pid in whom(host):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            status = hook.wait(60)
            assert hook.stderr
            said = hook.stderr.read().decode()
            hook.stderr.close()
            tally.count(Outcome(said if status else ""))
            print(f"{whom.__name__} killed after {moment * STEPS[whom] * 1000:.0f} ms: {status} {said}")
            assert status in (0, 1, -signal.SIGKILL), said
            assert "internal error" not in said, said
            if status == 1:
                assert "MPS daemon of the container" in said, said
                assert "within 8 s" not in said, "nobody waited"
        starts.end(sandbox, f"{whom.__name__} killed at moment {moment}: {status} {said}")


def test_the_server_and_the_container_at_once(starts, host, tally):
    with starts.begin() as sandbox:
        assert not sandbox.attach().refused
        for pid in (*daemons(host), sandbox.pid, *watchers(host)):
            os.kill(pid, signal.SIGKILL)
        tally.count()
        sandbox.__exit__()
    starts.end(sandbox, "all were killed")
