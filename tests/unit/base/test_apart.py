"""Work in a process apart: its answer, its end without one, and the end of patience."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from oci_gpu_hook.base import apart
from oci_gpu_hook.base.errors import ApplyError


def sleep() -> bytes:
    time.sleep(60)
    return b""


def test_an_answer():
    assert apart.answer(lambda: b"x" * 3_000_000, 20) == b"x" * 3_000_000


def test_what_it_changes_and_says_is_its_own(capfd):
    seen = []

    def work() -> bytes:
        seen.append(1)
        os.write(1, b"out")
        os.write(2, b"error")
        return b"done"

    assert apart.answer(work, 20) == b"done"
    assert seen == []
    assert capfd.readouterr() == ("", "")


def test_work_that_ends_without_an_answer():
    def work() -> bytes:
        raise ValueError

    assert apart.answer(work, 20) == b""
    assert apart.answer(lambda: os._exit(0), 20) == b""


def test_patience():
    began = time.monotonic()
    assert apart.answer(sleep, 0.2) is None
    assert time.monotonic() - began < 5


def test_no_descriptor_is_left():
    before = os.listdir("/proc/self/fd")
    apart.answer(lambda: b"x", 20)
    apart.answer(sleep, 0.01)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_where_no_process_can_be_started(monkeypatch):
    def refused():
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ApplyError, match="Resource temporarily unavailable; let it have more processes"):
        apart.answer(lambda: b"", 10.0)
    assert os.listdir("/proc/self/fd") == before


def test_it_ends_with_the_process_that_waits_for_it(tmp_path):
    mark = tmp_path / "mark"

    def work() -> bytes:
        mark.write_text(str(os.getpid()))
        time.sleep(60)
        return b""

    parent = os.fork()
    if parent == 0:
        try:
            apart.answer(work, 50)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 10
    while not mark.exists() or not mark.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child = mark.read_text()
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    while os.path.exists(f"/proc/{child}") and "Z" not in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
