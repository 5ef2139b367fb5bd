"""Who has a device open, and how these processes are ended: real processes, in a mount namespace of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest

from oci_gpu_hook.lifecycle import in_use

pytestmark = pytest.mark.root
FULL = (1, 7)  # /dev/full, which nothing else has open
ZERO = (1, 5)


@contextmanager
def container(script):
    """A process with a mount namespace of its own, which runs a script of the shell, once it says that it is there."""
    command = ["unshare", "--mount", "--", "sh", "-c", f"{script}; echo there; exec sleep 100"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        assert process.stdout.readline() == b"there\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_who_has_it_open_and_who_has_not():
    with container("exec 9</dev/full") as process, container("exec 9</dev/zero"):
        found = in_use.users(process.pid, [FULL])
        assert process.pid in {user.pid for user in found}
        assert in_use.users(process.pid, [ZERO]) == ()


def test_one_that_ends_when_asked_to():
    with container("exec 9</dev/full") as process:
        began = time.monotonic()
        assert in_use.end(in_use.users(process.pid, [FULL]), 30.0)
        assert time.monotonic() - began < 30, "it did not wait for the whole grace"
        assert process.wait() == -signal.SIGTERM


def test_one_that_does_not_is_killed():
    with container("trap '' TERM; exec 9</dev/full") as process:
        assert in_use.end(in_use.users(process.pid, [FULL]), 0.2)
        assert process.wait() == -signal.SIGKILL
        assert in_use.users(os.getpid(), [FULL]) == ()
