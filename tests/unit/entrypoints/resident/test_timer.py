"""A worker's one thread ends it as the thread of a hook does, and is there before and after each start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT

PROGRAM = """
import os, time
from oci_gpu_hook.apply.watch import Watch
from oci_gpu_hook.base import limits, syscalls
from oci_gpu_hook.entrypoints.resident import timer
limits.CONTAINER_FILES_SECONDS = 0.3
def threads():
    return len(os.listdir("/proc/self/task"))
timer.start()
assert threads() == 2
{work}
"""
HANGS = "with Watch('a'): time.sleep(20)"


def run(work: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM.format(work=work)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=15, cwd=ROOT)


@pytest.mark.parametrize(
    "work",
    [HANGS, f"with Watch('a'): pass\ntime.sleep(0.5)\n{HANGS}", f"with Watch('a'): time.sleep(0.2)\n{HANGS}"],
    ids=["the first start", "after a rest", "after another"],
)
def test_a_start_that_waits_for_a_file_system_is_ended(work):
    done = run(work)
    assert (done.returncode, done.stdout) == (1, "")
    assert "oci-gpu-hook: error: container 'a': a file system in it has not answered for" in done.stderr
    assert "[OGH1513]" in done.stderr


def test_each_start_has_the_whole_time():
    work = "for _ in range(4):\n    with Watch('a'): time.sleep(0.2)"
    done = run(f"{work}\nassert threads() == 2\nprint('all')")
    assert (done.returncode, done.stdout) == (0, "all\n"), done.stderr


def test_a_child_process_has_its_own():
    """The thread is not in a process that `apply.watch` goes on in."""
    child = "with Watch('a'):\n        assert threads() == 2\n        time.sleep(20)"
    done = run(f"if not os.fork():\n    {child}\nprint(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)")
    assert done.stdout == "1\n", done.stderr
    assert "[OGH1513]" in done.stderr


@pytest.mark.root
def test_a_mount_namespace_can_be_entered_beside_it():
    assert os.geteuid() == 0
    enters = "syscalls.setns(os.open('/proc/self/ns/mnt', os.O_RDONLY), syscalls.CLONE_NEWNS)"
    assert run(f"with Watch('a'): {enters}\nprint('entered')").stdout == "entered\n"
