"""Who has a device open, and how these processes are ended: real processes, in namespaces and cgroups of their own."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from oci_gpu_hook.apply.device_access import cgroup
from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import AllocationError
from oci_gpu_hook.lifecycle import descriptors, in_use, members

pytestmark = pytest.mark.root
FULL = (1, 7)  # /dev/full, which nothing else has open
ZERO = (1, 5)
DEVICES = Path("/sys/fs/cgroup/devices" if Path("/sys/fs/cgroup/devices").exists() else "/sys/fs/cgroup")


@pytest.fixture
def groups():
    """Make cgroups, and remove them at the end."""
    made = []

    def make(name: str) -> Path:
        path = DEVICES / f"oci-gpu-hook-in-use-{os.getpid()}-{name}"
        path.mkdir()
        made.append(path)
        return path

    yield make
    for path in reversed(made):
        for _ in range(100):
            try:
                path.rmdir()
                break
            except OSError:
                time.sleep(0.02)


@contextmanager
def process(script, group=None, namespaces=("--mount",), enter=()):
    """A process with namespaces of its own, which runs a script of the shell, once it says that it is there."""
    start = f"echo $$ >{group}/cgroup.procs; " if group else ""
    around = ["nsenter", *enter, "--"] if enter else []
    inner = (
        f"{start}exec {' '.join(around)} unshare {' '.join(namespaces)} -- sh -c '{script}; echo there; exec sleep 100'"
    )
    started = subprocess.Popen(["sh", "-c", inner], stdout=subprocess.PIPE)
    try:
        assert started.stdout
        assert started.stdout.readline() == b"there\n"
        yield started
    finally:
        started.kill()
        started.wait()


def users(pid, nodes=(FULL,), neighbours=()):
    with cgroup.find(pid) as found:
        return in_use.users(members.Members(pid, found, lambda: neighbours), nodes)


def test_a_look_ends_in_time(groups, monkeypatch):
    monkeypatch.setattr(limits, "PROCESSES_SECONDS", 0.0)
    with process("exec 9</dev/full", groups("one")) as one:
        with pytest.raises(AllocationError, match="could not be looked at within 0 s") as caught:
            users(one.pid)
        assert caught.value.code == "OGH1311"


def test_whether_the_cgroup_is_its_own_is_asked_once(groups, monkeypatch):
    asked = []
    is_alone = members.Members.is_alone

    def counted(self):
        asked.append(self.pid)
        return is_alone(self)

    monkeypatch.setattr(members.Members, "is_alone", counted)
    with process("exec 9</dev/full; sleep 1 & sleep 1 & true", groups("one")) as one:
        users(one.pid)
    assert len(asked) == 1


def test_who_has_it_open_and_who_has_not(groups):
    with process("exec 9</dev/full", groups("one")) as one, process("exec 9</dev/zero", groups("two")):
        assert [(user.pid, user.doubt) for user in users(one.pid)] == [(one.pid, "")]
        assert users(one.pid, [ZERO]) == ()


@pytest.mark.skipif(not Path("/sys/block/loop0").exists(), reason="the kernel has no block device that nobody uses")
def test_a_block_device_is_told_from_a_character_device_of_its_numbers(groups, tmp_path):
    """Devices of CDI files may be block devices."""
    node, numbers = tmp_path / "block", (7, 0)
    os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(*numbers))
    with process(f"exec 9<{node}", groups("one")) as one:
        assert [(user.pid, user.doubt) for user in users(one.pid, [(*numbers, "b")])] == [(one.pid, "")]
        assert users(one.pid, [numbers]) == ()
    with process("exec 9</dev/full", groups("two")) as two:
        assert users(two.pid, [(*FULL, "b")]) == ()


LEADERLESS = """
import ctypes, os, threading, time
file = os.open("/dev/{device}", os.O_RDWR)
libc = ctypes.CDLL(None)
if {mapped}:
    libc.mmap(None, ctypes.c_size_t(4096), 1, 2, file, ctypes.c_long(0))
    os.close(file)
def stay():
    while not open("/proc/self/stat").read().rpartition(")")[2].startswith(" Z"):
        time.sleep(0.01)
    os.write(1, b"there\\n")
    time.sleep(100)
threading.Thread(target=stay).start()
libc.syscall({exit}, 0)
"""
EXIT = {"x86_64": 60}.get(os.uname().machine, 93)  # of one thread: exit(2)


@pytest.mark.parametrize(("device", "mapped"), [("full", False), ("zero", True)])
def test_a_process_whose_first_thread_has_ended(groups, device, mapped):
    """It looks like a zombie: /proc shows no namespace, descriptor or mapping under its own number."""
    script = LEADERLESS.format(device=device, mapped=mapped, exit=EXIT)
    command = f'exec unshare --mount -- {sys.executable} -c "$1"'
    group = groups("one")
    start = f"echo $$ >{group}/cgroup.procs; {command}"
    with subprocess.Popen(["sh", "-c", start, "sh", script], stdout=subprocess.PIPE) as started:
        try:
            assert started.stdout
            assert started.stdout.readline() == b"there\n"
            with pytest.raises(OSError, match="No such file"):
                os.readlink(f"/proc/{started.pid}/ns/mnt")
            with process("true", group) as one:
                found = users(one.pid, [ZERO] if mapped else [FULL])
            assert [(user.pid, user.doubt) for user in found] == [(started.pid, "")]
            assert in_use.end(found, 30.0)
        finally:
            started.kill()


def test_one_in_the_containers_cgroup_that_has_joined_the_hosts_namespaces(groups):
    """As by `nsenter --target 1`, which some containers may."""
    group = groups("one")
    below = groups("one/below")
    with process("true", group) as one:
        start = f"echo $$ >{below}/cgroup.procs; exec 9</dev/full; echo there; exec sleep 100"
        with subprocess.Popen(["sh", "-c", start], stdout=subprocess.PIPE) as joined:
            try:
                assert joined.stdout
                assert joined.stdout.readline() == b"there\n"
                assert [(user.pid, user.doubt) for user in users(one.pid)] == [(joined.pid, "")]
            finally:
                joined.kill()


def test_a_look_at_many_descriptors_of_one_process_ends_in_time(groups, monkeypatch):
    with process("exec 9</dev/zero", groups("one")) as one:
        times = iter([0.0, 0.0] + [100.0] * 100)
        monkeypatch.setattr(descriptors, "monotonic", lambda: next(times))
        monkeypatch.setattr(time, "monotonic", lambda: 0.0)
        with pytest.raises(AllocationError, match="could not be looked at within") as caught:
            users(one.pid)
        assert caught.value.code == "OGH1311"


def test_one_that_ends_when_asked_to(groups):
    with process("exec 9</dev/full", groups("one")) as one:
        began = time.monotonic()
        assert in_use.end(users(one.pid), 30.0)
        assert time.monotonic() - began < 30, "it did not wait for the whole grace"
        assert one.wait() == -signal.SIGTERM


def test_one_that_does_not_is_killed(groups):
    with process('trap "" TERM; exec 9</dev/full', groups("one")) as one:
        assert in_use.end(users(one.pid), 0.2)
        assert one.wait() == -signal.SIGKILL


def test_a_neighbour_in_the_same_pid_namespace_is_none_of_it(groups):
    """As in a pod, or by `docker run --pid=container:…`: its processes have their own GPU open."""
    space = ("--mount", "--pid", "--fork", "--kill-child")
    holds = "echo 0 >{}/cgroup.procs; exec 9</dev/full"
    with process(holds.format(groups("one")), None, space) as one:
        child = child_of(one.pid)
        enter = ("--pid", f"--target={child}")
        with process(holds.format(groups("two")), None, ("--mount",), enter) as two:
            found = users(child, neighbours=[child_of(two.pid)])
            assert [(user.pid, user.doubt) for user in found] == [(child, "")]
            doubtful = {(user.pid, user.doubt) for user in users(child)} - {(child, "")}
            assert doubtful == {(child_of(two.pid), members.OUTSIDE)}, "nobody knows whose it is"


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()[0])


def test_a_cgroup_with_others_in_it_proves_nothing(groups):
    """Such as that of a session, where an engine has made no cgroup for the container."""
    group = groups("session")
    with process("exec 9</dev/full", group) as one, process("exec 9</dev/full", group) as two:
        assert {user.doubt for user in users(one.pid, neighbours=[one.pid, two.pid])} == {members.NOT_ALONE}


@pytest.mark.parametrize(
    ("how", "doubt"),
    [
        ("thread", ""),
        ("mapped", ""),
        ("sent", descriptors.UNDER_WAY),
        ("registered", descriptors.IN_A_RING),
    ],
)
def test_what_no_descriptor_of_the_process_shows(groups, how, doubt):
    script = f"exec {sys.executable} {Path(__file__).with_name('holding.py')} {how}"
    with process(script, groups("one")) as one:
        found = users(one.pid, [ZERO] if how == "mapped" else [FULL])
        assert [(user.pid, user.doubt) for user in found] == [(one.pid, doubt)]


def test_the_table_of_descriptors_of_a_thread_is_its_own_or_not():
    from oci_gpu_hook.base import syscalls

    libc = ctypes.CDLL(None)
    assert syscalls.has_files_of(libc.gettid(), os.getpid())
    assert not syscalls.has_files_of(1, os.getpid())
