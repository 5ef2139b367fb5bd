"""Who cannot come back from a container's mount namespace must do nothing more: each path would be the container's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from oci_gpu_hook.apply.process import Process, check_process
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import InvalidInput
from tests.unit.lifecycle.test_in_use import EXIT, LEADERLESS


def test_a_process_that_cannot_leave_ends(monkeypatch, capfd):
    def refuse(_fd, _kind):
        raise PermissionError(1, "Operation not permitted")

    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(syscalls, "setns", refuse)
    monkeypatch.setattr(os, "_exit", leave)
    with Process(os.getpid()) as process, pytest.raises(SystemExit) as end:
        process.leave()
    assert end.value.code == 1
    assert "cannot leave the container's mount namespace: Operation not permitted" in capfd.readouterr().err


@pytest.mark.root
def test_a_process_that_has_ended_its_first_thread_is_named_as_what_it_is():
    command = [sys.executable, "-c", LEADERLESS.format(device="null", mapped=False, exit=EXIT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
        try:
            assert started.stdout
            assert started.stdout.readline() == b"there\n"
            with pytest.raises(InvalidInput, match=r"has ended its first thread.*; end the container by `kill -9"):
                check_process(started.pid)
        finally:
            started.kill()
    with pytest.raises(InvalidInput, match="no such process; the container died"):
        check_process(started.pid)
