"""File systems that never answer: one tenant's volume, or what is left of his container, keeps nobody else waiting."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.attack.sandbox import ENVIRONMENT, Outcome
from tests.runtime.host import contents, difference

SCRIPT = Path(__file__).with_name("hung.py")
UTILITY = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility")
OTHERS = 5
PATIENCE = 3  # seconds for all of them; a start takes a tenth of one
pytestmark = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="the kernel has no FUSE")


@contextmanager
def never_answers(command, path, *server):
    """Mount a file system that never answers at `path`; command: gives the words that run others where it is to be."""
    holder = subprocess.Popen(
        command(sys.executable, "-ISB", SCRIPT, path, *server), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "mounted\n"
        yield
    finally:
        holder.communicate(timeout=10)


def in_namespace_of(pid: int):
    return lambda *words: ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "--wd=/", "--", *map(str, words)]


def start_others(enter, rootfs_named, name: str) -> float:
    """Start and end containers of other tenants; return the seconds that their starts took in all."""
    seconds = 0.0
    for number in range(OTHERS):
        with enter(rootfs_named(f"{name}-{number}"), env=UTILITY) as other:
            began = time.monotonic()
            assert other.attach() == Outcome("")
            seconds += time.monotonic() - began
        assert other.release() == Outcome("")
    return seconds


SERVERS = pytest.mark.parametrize("server", [(), ("takes",)], ids=["never asks", "never answers"])


@SERVERS
def test_an_image_that_leads_to_a_hanging_volume_keeps_nobody_else_waiting(enter, rootfs_named, tally, server):
    start_others(enter, rootfs_named, "warm")  # whoever is first makes the inventory
    own = rootfs_named("hung")
    (own / "usr/bin").rename(own / "usr/was-bin")
    (own / "usr/bin").symlink_to("/data")
    (own / "data").mkdir()
    before = contents(own)
    with enter(own, env=UTILITY) as hung, never_answers(in_namespace_of(hung.pid), own / "data", *server):
        tally.count()
        began = time.monotonic()
        hook = subprocess.Popen(
            hung.command("prestart"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
        )  # fmt: skip
        assert hook.stdin
        hook.stdin.write(hung.state())
        hook.stdin.close()
        hook.stdin = None
        time.sleep(0.5)
        try:
            assert hook.poll() is None  # it hangs
            assert start_others(enter, rootfs_named, "other") < PATIENCE
            stdout, stderr = hook.communicate(timeout=25 - (time.monotonic() - began))
        finally:
            hook.kill()
        outcome = Outcome.of(hook.returncode, stdout.decode(), stderr.decode())
        assert "has not answered for" in outcome.refused
    assert hung.release() == Outcome("")
    assert difference(before, contents(own)) == []


def test_the_remains_of_a_container_on_a_hanging_rootfs_keep_nobody_waiting(
    runc, enter, rootfs_named, simulated, tally
):
    """The hook of the one was killed, or no engine ran its poststop; its rootfs is where no answer comes from now."""
    start_others(enter, rootfs_named, "warm")
    own = rootfs_named("gone")
    before = contents(own)
    with enter(own, env=UTILITY) as dead:
        assert dead.attach() == Outcome("")
    with never_answers(runc.host.command, own):
        tally.count()
        assert start_others(enter, rootfs_named, "other") < PATIENCE
        assert start_others(enter, rootfs_named, "later") < PATIENCE
        assert list((simulated.state_dir / "containers").glob(f"{dead.id}*.json"))  # for when it answers
    assert dead.release() == Outcome("")
    assert not list((simulated.state_dir / "containers").glob(f"{dead.id}*"))
    assert difference(before, contents(own)) == []
    shutil.rmtree(own)


@SERVERS
def test_a_living_container_with_a_hanging_volume_ends_no_look_at_the_others(
    runc, enter, rootfs_named, simulated, tally, server
):
    """Its volume comes to lie where the hook's links and programs are; `verify` and its like look there."""
    own = rootfs_named("hung")
    oci_gpu = [Path(sys.executable).with_name("oci-gpu"), "--config", simulated.config]
    with enter(own, env=UTILITY) as hung, enter(rootfs_named("other"), env=UTILITY) as other:
        assert hung.attach() == Outcome("")
        assert other.attach() == Outcome("")
        with never_answers(in_namespace_of(hung.pid), own / "usr/bin", *server):
            for arguments in (("verify",), ("repair", "--all"), ("doctor",)):
                tally.count()
                done = runc.host.call(*oci_gpu, *arguments, check=False)
                assert "internal error" not in done.stderr + done.stdout
                assert "has not answered for" in done.stdout + done.stderr, done
                if arguments != ("doctor",):
                    assert f"{other.id}: has what it was given\n" in done.stdout
        assert runc.host.call(*oci_gpu, "repair", other.id).stdout == f"{other.id}: has what it was given\n"
    assert other.release() == Outcome("")
    assert hung.release() == Outcome("")


@SERVERS
def test_a_start_beside_a_volume_that_others_serve(enter, rootfs_named, simulated, tally, server):
    """A child does the work; what becomes of it is what becomes of the hook: its status, its one line."""
    own = rootfs_named("beside")
    (own / "data").mkdir()
    before = contents(own)
    with enter(own, env=UTILITY) as beside, never_answers(in_namespace_of(beside.pid), own / "data", *server):
        tally.count()
        assert beside.attach() == Outcome("")
        assert beside.path("/dev/nvidia0").exists()
        assert list((simulated.state_dir / "containers").glob(f"{beside.id}*.json"))
    assert beside.release() == Outcome("")
    assert difference(before, contents(own)) == []
    (own / "usr/bin/nvidia-smi").mkdir(parents=True)
    with enter(own, env=UTILITY) as beside, never_answers(in_namespace_of(beside.pid), own / "data", *server):
        tally.count()
        assert "has a directory there" in beside.attach().refused


def test_a_child_takes_back_its_own_mounts(runc, enter, rootfs_named, tally):
    """What fails after the mounts are attached takes them away again, whichever process had held the container."""
    own = rootfs_named("refused")
    (own / "data").mkdir()
    before = contents(own)
    tree = runc.host.path("/sys/fs/cgroup/devices")
    closed = f"{runc.cgroup}-closed"
    (tree / closed.strip("/")).mkdir()
    (tree / closed.strip("/") / "devices.deny").write_text("a")
    try:
        with enter(own, env=UTILITY, cgroup=closed) as alone:
            mounts = alone.mounts()
            assert "above it does not allow that device" in alone.attach().refused
            assert alone.mounts() == mounts
            with never_answers(in_namespace_of(alone.pid), own / "data"):
                mounts = alone.mounts()
                outcome = alone.attach()
                tally.count(outcome)
                assert "above it does not allow that device" in outcome.refused
                assert alone.mounts() == mounts
    finally:
        (tree / closed.strip("/")).rmdir()
    assert difference(before, contents(own)) == []
