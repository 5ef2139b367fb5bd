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
from tests.runtime import rootfs as images
from tests.runtime.host import contents, difference

SCRIPT = Path(__file__).with_name("hung.py")
UTILITY = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility")
OTHERS = 5
PATIENCE = 3  # seconds for all of them; a start takes a tenth of one
pytestmark = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="the kernel has no FUSE")


@contextmanager
def never_answers(command, path):
    """Mount a file system that never answers at `path`; command: gives the words that run others where it is to be."""
    holder = subprocess.Popen(
        command(sys.executable, "-ISB", SCRIPT, path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "mounted\n"
        yield
    finally:
        holder.communicate(timeout=10)


def in_namespace_of(pid: int):
    return lambda *words: ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "--wd=/", "--", *map(str, words)]


@pytest.fixture
def rootfs(machine, directory):
    """Return a maker of rootfs of their own."""

    def make(name: str) -> Path:
        (directory / name).mkdir()
        return images.copy(machine.image("debian"), directory / name / "rootfs")

    return make


def start_others(enter, rootfs, name: str) -> float:
    """Start and end containers of other tenants; return the seconds that their starts took in all."""
    seconds = 0.0
    for number in range(OTHERS):
        with enter(rootfs(f"{name}-{number}"), env=UTILITY) as other:
            began = time.monotonic()
            assert other.attach() == Outcome("")
            seconds += time.monotonic() - began
        assert other.release() == Outcome("")
    return seconds


def test_an_image_that_leads_to_a_hanging_volume_keeps_nobody_else_waiting(enter, rootfs, tally):
    start_others(enter, rootfs, "warm")  # whoever is first makes the inventory
    own = rootfs("hung")
    (own / "usr/bin").rename(own / "usr/was-bin")
    (own / "usr/bin").symlink_to("/data")
    (own / "data").mkdir()
    before = contents(own)
    with enter(own, env=UTILITY) as hung, never_answers(in_namespace_of(hung.pid), own / "data"):
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
            assert start_others(enter, rootfs, "other") < PATIENCE
            stdout, stderr = hook.communicate(timeout=25 - (time.monotonic() - began))
        finally:
            hook.kill()
        outcome = Outcome.of(hook.returncode, stdout.decode(), stderr.decode())
        assert "has not answered for" in outcome.refused
    assert hung.release() == Outcome("")
    assert difference(before, contents(own)) == []


def test_the_remains_of_a_container_on_a_hanging_rootfs_keep_nobody_waiting(runc, enter, rootfs, simulated, tally):
    """The hook of the one was killed, or no engine ran its poststop; its rootfs is where no answer comes from now."""
    start_others(enter, rootfs, "warm")
    own = rootfs("gone")
    before = contents(own)
    with enter(own, env=UTILITY) as dead:
        assert dead.attach() == Outcome("")
    with never_answers(runc.host.command, own):
        tally.count()
        assert start_others(enter, rootfs, "other") < PATIENCE
        assert start_others(enter, rootfs, "later") < PATIENCE
        assert list((simulated.state_dir / "containers").glob(f"{dead.id}*.json"))  # for when it answers
    assert dead.release() == Outcome("")
    assert not list((simulated.state_dir / "containers").glob(f"{dead.id}*"))
    assert difference(before, contents(own)) == []
    shutil.rmtree(own)
