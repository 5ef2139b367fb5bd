"""The resident attacked: by who may not ask it, by what is not a front, by kills of each of its processes.

Whatever is wrong before the work has Python started, with the same outcome; what is wrong later leaves what a killed
hook leaves, or less.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from oci_gpu_hook.base import limits
from tests.attack.sandbox import Outcome
from tests.attack.served import begun, descriptors, needs_strace
from tests.runtime import rootfs as images
from tests.runtime.host import contents, difference
from tests.runtime.residents import traced

UTILITY = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility")


@pytest.fixture
def rootfs(machine, directory):
    return images.copy(machine.image("debian"), directory / "rootfs")


def test_it_does_what_python_does(served, enter, rootfs, simulated, tally):
    before = contents(rootfs)
    for _ in range(3):
        with enter(rootfs, env=UTILITY, hook=served.front) as sandbox:
            assert sandbox.attach() == Outcome("")
            assert sandbox.path("/dev/nvidia0").is_char_device()
            assert sandbox.path("/usr/bin/nvidia-smi").stat().st_size > 0
            assert sandbox.id in (simulated.state_dir / "leases.json").read_text()
        assert sandbox.release() == Outcome("")
        assert difference(before, contents(rootfs)) == []
        tally.count()
    assert served.pythons < 3


def test_a_refusal_is_said_in_the_fronts_own_stderr(served, enter, rootfs, tally):
    (rootfs / "usr/bin/nvidia-smi").mkdir(parents=True)
    with enter(rootfs, env=UTILITY, hook=served.front) as sandbox:
        outcome = sandbox.attach()
    tally.count(outcome)
    assert "/usr/bin/nvidia-smi" in outcome.refused
    assert b"cannot read" in served.call().stderr
    assert served.pythons < 2


# Each is a front that is not where the resident is, or may not do what it may.
ELSEWHERE = {
    "another mount namespace": ("unshare", "--mount"),
    "another pid namespace": ("unshare", "--pid", "--fork", "--mount-proc"),
    "another pid namespace under the same /proc": ("unshare", "--pid", "--fork"),
    "another user namespace": ("unshare", "--user", "--map-root-user"),
    "another network": ("unshare", "--net"),
    "another cgroup namespace": ("unshare", "--cgroup"),
    "fewer capabilities": ("setpriv", "--bounding-set", "-sys_ptrace"),
    "no new privileges": ("setpriv", "--no-new-privs"),
    "another group": ("setpriv", "--regid", "5", "--clear-groups"),
}


@pytest.mark.parametrize("where", ELSEWHERE)
def test_a_front_elsewhere_starts_python(served, tally, where):
    served.call(*ELSEWHERE[where])
    tally.count()
    assert served.pythons == 1
    assert served.serves()


def test_a_front_with_another_root_directory_starts_python(served, directory, tally, runc):
    root = directory / "root"
    root.mkdir()
    script = f'mount --rbind / {root}; exec chroot {root} "$@"'
    served.call("unshare", "--mount", "sh", "-c", script, "sh")
    tally.count()
    assert served.pythons == 1


@pytest.mark.parametrize(
    "what", ["absent", "a file", "a link", "open to all", "in a directory of all", "of another user"]
)
def test_a_socket_that_others_could_have_made_is_not_asked(served, tally, what):
    address, directory = served.address, served.address.parent
    match what:
        case "absent":
            address.unlink()
        case "a file":
            address.unlink()
            address.write_bytes(b"")
            address.chmod(0o600)
        case "a link":
            address.rename(directory / "other")
            address.symlink_to(directory / "other")
        case "open to all":
            address.chmod(0o666)
        case "in a directory of all":
            directory.chmod(0o777)
        case "of another user":
            os.chown(address, 1000, 1000)
    served.call()
    tally.count()
    assert served.pythons == 1


def test_who_is_not_root_is_not_served(served, directory, tally):
    served.address.parent.chmod(0o755)
    served.address.chmod(0o666)
    assert served.ask([FRONT]).stdout.split() == [str(b"R")] * 5
    assert served.ask([FRONT], "setpriv", "--reuid", "1000").stdout.split() == [str(b"N")] * 5
    tally.count()


FRONT = (b"oci-gpu-hook resident 2\0hook\0STUB\0\0prestart\0", 0)
# What is sent, each packet with the number of descriptors that come with it, and what comes back before the end.
PACKETS = {
    "a front": ([FRONT], b"R"),
    "nothing": ([(b"", 0)], b"N"),
    "who only wants to know": ([FRONT, (b"L", 0)], b"RR"),
    "the same with descriptors": ([FRONT, (b"L", 3)], b"RN"),
    "descriptors too soon": ([(FRONT[0], 100)], b"R"),
    "go without descriptors": ([FRONT, (b"G", 0)], b"RN"),
    "go with two": ([FRONT, (b"G", 2)], b"RN"),
    "go by a process that has inherited the connection": ([FRONT, (b"G", -1)], b"RN"),
    "go with too many": ([FRONT, (b"G", 100)], b"RN"),
    "another word than go": ([FRONT, (b"X", 3)], b"RN"),
    "more than go": ([FRONT, (b"GG", 3)], b"RN"),
    "another version": ([(b"oci-gpu-hook resident 3\0hook\0STUB\0\0prestart\0", 0)], b"N"),
    "another installation": ([(b"oci-gpu-hook resident 2\0hook\0/tmp/other.pyc\0\0prestart\0", 0)], b"N"),
    "another program": ([(b"oci-gpu-hook resident 2\0mesos\0STUB\0\0prestart\0", 0)], b"N"),
    "no arguments": ([(b"oci-gpu-hook resident 2\0hook\0STUB\0\0", 0)], b"N"),
    "no end": ([(b"oci-gpu-hook resident 2\0hook\0STUB\0\0prestart", 0)], b"N"),
    "a stage that it does not do": ([(b"oci-gpu-hook resident 2\0hook\0STUB\0\0createContainer\0", 0)], b"N"),
    "longer than any": ([(FRONT[0] + b"a\0" * 50_000 + b"prestart\0", 0)], b"N"),
    "bytes": ([(bytes(range(256)) * 8, 3)], b"N"),
}


@pytest.mark.parametrize("name", PACKETS)
def test_what_is_no_front_is_not_served(served, tally, name):
    packets, answer = PACKETS[name]
    before = {*map(descriptors, served.running.workers())}
    done = served.ask(packets)
    tally.count()
    assert done.stdout.split() == [str(answer)] * 5, done
    assert served.serves()
    deadline = time.monotonic() + 5
    while (after := {*map(descriptors, served.running.workers())}) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert after == before


def test_those_that_say_nothing_hold_nobody_for_long(served, tally):
    silent = [served.connect() for _ in range(100)]
    served.call()
    tally.count()
    time.sleep(2 * limits.RESIDENT_SECONDS)
    assert served.serves()
    for connection in silent:
        connection.close()


def test_one_that_hangs_is_waited_for_no_longer_than_it_says(served, tally):
    pids = [served.running.pid, *served.running.workers()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        served.call()
        tally.count()
        assert served.pythons == 1
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert served.serves()


@needs_strace
@pytest.mark.parametrize(
    "point", ["symlinkat:1", "symlinkat:3", "mknodat:1", "open_tree:2", "move_mount:1", "move_mount:3", "sendto:2"]
)
def test_a_worker_that_is_killed_leaves_what_a_killed_hook_leaves(served, enter, rootfs, simulated, tally, point):
    before = contents(rootfs)
    call, _, number = point.partition(":")
    for _ in range(5):
        tracers = traced(served.running, "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}")
        with enter(rootfs, env=UTILITY, hook=served.front) as sandbox:
            outcome = sandbox.attach()
        for tracer in tracers:
            tracer.kill()
            tracer.wait()
        tally.count(outcome)
        if outcome.refused:
            break
        assert served.pythons, "neither killed nor Python's"  # on a busy machine the front has waited for its 50 ms
        assert sandbox.release() == Outcome("")
    else:
        pytest.fail("no worker was in time")
    assert "the resident's process: has ended before its work was done" in outcome.refused
    with enter(rootfs, env=UTILITY, hook=served.front, id=sandbox.id) as again:
        assert again.attach() == Outcome("")
    assert again.release() == Outcome("")
    assert difference(before, contents(rootfs)) == []
    assert sandbox.id not in (simulated.state_dir / "leases.json").read_text()


@needs_strace
@pytest.mark.parametrize("point", ["symlinkat:1", "mknodat:1", "open_tree:2", "move_mount:3"])
def test_what_a_front_asked_for_that_was_killed_is_rolled_back(served, enter, rootfs, simulated, tally, point):
    before = contents(rootfs)
    call, _, number = point.partition(":")
    tracers = traced(served.running, "-e", f"trace={call}", "-e", f"inject={call}:delay_enter=1500000:when={number}")
    with enter(rootfs, env=UTILITY, hook=served.front) as sandbox:
        mounts = sandbox.mounts()
        front = begun(sandbox)
        time.sleep(0.7)
        front.kill()
        assert front.wait() == -signal.SIGKILL
        assert front.stderr
        said = front.stderr.read().decode()  # up to its end: the worker has closed it, too
        front.stderr.close()
        assert "the hook's process: was killed before it was done" in said
        tally.count()
        for tracer in tracers:
            tracer.kill()
            tracer.wait()
        assert sandbox.mounts() == mounts
        assert sandbox.id not in (simulated.state_dir / "leases.json").read_text()
        assert [path for path in (simulated.state_dir / "containers").iterdir() if sandbox.id in path.name] == []
    assert difference(before, contents(rootfs)) == []
    assert served.pythons == 0


@needs_strace
def test_for_a_front_that_was_killed_before_the_journal_nothing_is_made(served, enter, rootfs, directory, tally):
    """The worker is held up at the lock of the rootfs, under which it writes the journal's entry."""
    before = contents(rootfs)
    file = directory / "calls"
    calls = "fcntl,symlinkat,mknodat,mkdirat,open_tree,move_mount"
    options = ("-A", "-o", str(file), "-e", f"trace={calls}", "-e", "inject=fcntl:delay_enter=1500000:when=2")
    tracers = traced(served.running, *options)
    with enter(rootfs, env=UTILITY, hook=served.front) as sandbox:
        front = begun(sandbox)
        time.sleep(0.7)
        front.kill()
        front.wait()
        assert front.stderr
        said = front.stderr.read().decode()
        front.stderr.close()
        tally.count()
        for tracer in tracers:
            tracer.terminate()
            tracer.wait()
    assert "the hook's process: was killed before it was done" in said
    made = file.read_text()
    assert "F_OFD_SETLK" in made
    assert [call for call in ("symlinkat", "mknodat", "move_mount") if call in made] == []
    assert difference(before, contents(rootfs)) == []
    assert served.pythons == 0


@needs_strace
def test_a_manager_that_is_killed_takes_no_start_with_it(served, enter, rootfs, tally):
    tracers = traced(served.running, "-e", "trace=symlinkat", "-e", "inject=symlinkat:delay_enter=700000:when=1")
    with enter(rootfs, env=UTILITY, hook=served.front) as sandbox:
        front = begun(sandbox)
        time.sleep(0.3)
        workers = served.running.workers()
        os.kill(served.running.pid, signal.SIGKILL)
        assert served.running.has_ended()
        assert front.wait(timeout=20) == 0
        assert sandbox.path("/dev/nvidia0").is_char_device()
        tally.count()
    for tracer in tracers:
        tracer.kill()
        tracer.wait()
    assert sandbox.release() == Outcome("")
    assert served.pythons == 0
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []
    served.call()
    assert served.pythons == 1
