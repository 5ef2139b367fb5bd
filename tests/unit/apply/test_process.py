"""Who cannot come back from a container's mount namespace must do nothing more: each path would be the container's."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.apply.process import Process
from oci_gpu_hook.base import syscalls


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
