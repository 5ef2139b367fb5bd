"""The hook killed at every system call that changes something, as engines do when a hook takes too long.

What it had done is undone by poststop, or by the next start of the same container; the host keeps nothing of it.
"""

from __future__ import annotations

import itertools
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager

import pytest

from oci_gpu_hook.admin.doctor import model, remains
from oci_gpu_hook.base.config import load as configs
from tests.attack.sandbox import ENVIRONMENT, Outcome
from tests.runtime import rootfs as images
from tests.runtime.host import contents, difference

CHANGING = (
    *("mkdir", "mkdirat", "openat", "write", "unlink", "unlinkat", "rename", "renameat", "symlink", "symlinkat"),
    *("mknodat", "fchown", "fchownat", "flock", "setns", "umount2"),
    *("open_tree", "mount_setattr", "move_mount", "fsopen", "fsconfig", "fsmount"),
)
UTILITY = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility")
pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")


@pytest.fixture(scope="session")
def hook(python_hook):
    """The process is the hook: what a worker of the resident leaves is in test_resident.py."""
    return python_hook


@contextmanager
def rootfs_on(kind: str, runc, machine, directory):
    """Yield a rootfs; in a plain directory the ld cache is mounted over, on an overlay it is exchanged."""
    if kind == "directory":
        yield images.copy(machine.image("debian"), directory / "rootfs")
        return
    upper, work, merged = (directory / name for name in ("upper", "work", "merged"))
    for path in (upper, work, merged):
        path.mkdir()
    layers = f"lowerdir={machine.image('debian')},upperdir={upper},workdir={work}"
    runc.host.call("mount", "-t", "overlay", "overlay", "-o", layers, merged)
    try:
        yield merged
    finally:
        runc.host.call("umount", merged)


def points(sandbox, directory, *, full: bool) -> list[tuple[str, int]]:
    """Run the hook once under strace; return (call, how many-th) of all that it makes, or of some of each."""
    trace = directory / "trace"
    _run_traced(sandbox, "-o", str(trace), "-e", f"trace={','.join(CHANGING)}")
    made = [match[1] for line in trace.read_text().splitlines() if (match := _CALL.match(line))]
    assert {"mkdirat", "symlinkat", "move_mount", "mount_setattr", "mknodat", "setns"} <= {*made}
    chosen = []
    for call in dict.fromkeys(made):
        count = made.count(call)
        numbers = range(1, count + 1) if full else sorted({1, count})
        if call == "openat" and not full:
            numbers = range(count // 2, count + 1, 20)  # the first half is the interpreter's
        chosen += [(call, number) for number in numbers]
    return chosen


def _run_traced(sandbox, *options: str) -> int:
    strace = ["strace", "-f", "-qq", *options, *sandbox.command("prestart")]
    return subprocess.run(
        strace, input=sandbox.state(), capture_output=True, env=ENVIRONMENT, check=False, timeout=60
    ).returncode


@pytest.mark.parametrize("kind", ["directory", "overlay"])
def test_a_hook_that_is_killed_leaves_nothing(kind, runc, enter, machine, simulated, directory, tally, full):
    with rootfs_on(kind, runc, machine, directory) as rootfs:
        _kill_everywhere(rootfs, runc, enter, simulated, directory, tally, full=full)


def _kill_everywhere(rootfs, runc, enter, simulated, directory, tally, *, full: bool) -> None:
    seen = runc.host.path(rootfs)
    before = contents(seen)
    chosen = []
    for _ in range(2):  # the first start makes the inventory, which no later one does
        with enter(rootfs, env=UTILITY) as sandbox:
            chosen = points(sandbox, directory, full=full)
        assert sandbox.release() == Outcome("")
    kept = _state_files(simulated)
    killed = 0
    for number, (call, nth) in enumerate(chosen):
        with enter(rootfs, env=UTILITY) as sandbox:
            status = _run_traced(
                sandbox, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={nth}"
            )
            tally.count()
        said = f"killed at {call} number {nth}: {status}"
        if status == 0:  # it made fewer calls than the one that was counted: its inventory was made by another
            assert sandbox.release() == Outcome(""), said
            continue
        killed += 1
        assert status == -signal.SIGKILL, said
        if number % 2:
            with enter(rootfs, env=UTILITY, id=sandbox.id) as again:
                assert again.attach() == Outcome(""), said
                assert again.path("/dev/nvidia0").is_char_device(), said
        assert sandbox.release() == Outcome(""), said
        assert difference(before, contents(seen)) == [], said
        assert _state_files(simulated) <= kept, said
        assert _what_doctor_finds(simulated) == [], said
        leases = (simulated.state_dir / "leases.json").read_text()
        assert sandbox.id not in leases or number % 2 == 0, said
    assert killed > len(chosen) * 0.9
    # What a killed hook could not take back of its lease is void, because its container is no more.
    with enter(rootfs, env=UTILITY) as sandbox:
        assert sandbox.attach() == Outcome("")
    assert sandbox.release() == Outcome("")
    assert "attack-" not in (simulated.state_dir / "leases.json").read_text()


def _what_doctor_finds(simulated) -> list[str]:
    """Return what `oci-gpu doctor` has to say about remains that somebody should do something about."""
    host = model.Host(config=configs.load(str(simulated.config)), config_path=str(simulated.config))
    return [found.what for found in remains.check(host) if found.severity not in (model.OK, model.NOTE)]


def _state_files(simulated) -> set[str]:
    found = (str(path.relative_to(simulated.state_dir)) for path in simulated.state_dir.rglob("*"))
    return {
        name for name in found if not name.endswith("leases.json.new")
    }  # written again, under the lock, by the next


def test_two_at_once_and_one_is_killed(enter, machine, simulated, directory, tally):
    """A container on the same rootfs keeps what it has when another's hook is killed and cleaned up after."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    before = contents(rootfs)
    with enter(rootfs, env=UTILITY) as living:
        assert living.attach() == Outcome("")
        for call, nth in itertools.product(("symlinkat", "move_mount", "mknodat"), (1, 2)):
            with enter(rootfs, env=UTILITY) as killed:
                status = _run_traced(killed, "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={nth}")
                assert status == -signal.SIGKILL, f"not killed at {call} number {nth}"
                tally.count()
            assert killed.release() == Outcome("")
            assert living.path("/usr/bin/nvidia-smi").stat().st_size > 0
            assert living.path("/dev/nvidia0").is_char_device()
    assert living.release() == Outcome("")
    assert difference(before, contents(rootfs)) == []
