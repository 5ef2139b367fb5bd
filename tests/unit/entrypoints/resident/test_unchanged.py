"""A worker that a start has left other than it was serves no other front: each difference, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT

PROGRAM = """
import gc, os, signal, sys, threading, time
from oci_gpu_hook.base import limits, log, syscalls
from oci_gpu_hook.entrypoints.resident.place import Look
from oci_gpu_hook.entrypoints.resident.unchanged import Before
os.chdir("/")
fd = os.open("/dev/null", os.O_RDONLY)
before = Before.now(Look.at("self").place)
assert before.is_now()
{change}
print(before.is_now())
"""
KEPT = {
    "nothing": "",
    "a file that is closed again": "os.close(os.open('/dev/null', os.O_RDONLY))",
    "a child that was waited for": "os.waitpid(os.spawnv(os.P_NOWAIT, '/bin/true', ['true']), 0)",
    "a thread that ends soon": "threading.Thread(target=time.sleep, args=(0.002,)).start()",
    "another umask, which each start sets": "os.umask(0)",
    "what is set back": "os.chdir('/tmp'); before.set_back()",
}
CHANGED = {
    "a file": "os.open('/dev/null', os.O_RDONLY)",
    "another file in place of one": "os.dup2(os.open('/dev/zero', os.O_RDONLY), fd); os.close(fd + 1)",
    "a child": "os.spawnv(os.P_NOWAIT, '/bin/sleep', ['sleep', '0.2'])",
    "a child that has ended": "os.spawnv(os.P_NOWAIT, '/bin/true', ['true']); time.sleep(0.05)",
    "a thread": "threading.Thread(target=time.sleep, args=(0.5,), daemon=True).start()",
    "another working directory": "os.chdir('/tmp')",
    "a refusal that was logged": "log.error('refused')",
    "a signal that is ignored": "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "a signal that is no longer ignored": "signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
    "a signal that is caught": "signal.signal(signal.SIGTERM, lambda *_: None)",
    "a signal that is blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])",
    "more memory": "kept = bytearray(limits.RESIDENT_MEMORY + (2 << 20))",
}
AS_ROOT = {
    "another mount namespace": "syscalls.unshare(syscalls.CLONE_NEWNS)",
    "another root directory": "os.chroot('/usr'); os.chdir('/')",
    "another user": "os.setresuid(0, 0, 1); os.setresuid(1, 0, 0)",
    "another user for files": "syscalls.set_fs_ids(1000, 0)",
    "another group": "os.setegid(1)",
}


def said(change: str) -> str:
    text = PROGRAM.format(change=change).replace(
        "before = Before", "fd = os.open('/dev/null', os.O_RDONLY)\nbefore = Before"
    )
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("change", KEPT)
def test_these_change_nothing(change):
    assert said(KEPT[change]) == "True"


@pytest.mark.parametrize("change", CHANGED)
def test_each_of_these_is_seen(change):
    assert said(CHANGED[change]) == "False"


@pytest.mark.root
@pytest.mark.parametrize("change", AS_ROOT)
def test_each_of_these_of_roots_is_seen(change):
    assert os.geteuid() == 0
    assert said(AS_ROOT[change]) == "False"


def test_the_limit_of_open_files_is_set_back():
    """A start raises it (apply.transaction), and what the next one starts would inherit that."""
    change = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 4096))
before = Before.now(Look.at("self").place)
syscalls.allow_most_descriptors()
raised = resource.getrlimit(resource.RLIMIT_NOFILE)
before.set_back()
assert [raised, resource.getrlimit(resource.RLIMIT_NOFILE)] == [(4096, 4096), (512, 4096)]
"""
    assert said(change) == "True"
