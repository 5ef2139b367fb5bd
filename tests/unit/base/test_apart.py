"""Work in a process apart: its answer, its end without one, and the end of patience."""

from __future__ import annotations

import os
import time

from oci_gpu_hook.base import apart


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
    assert apart.answer(lambda: time.sleep(60) or b"", 0.2) is None
    assert time.monotonic() - began < 5


def test_no_descriptor_is_left():
    before = os.listdir("/proc/self/fd")
    for work, patience in ((lambda: b"x", 20), (lambda: time.sleep(60) or b"", 0.01)):
        apart.answer(work, patience)
    assert len(os.listdir("/proc/self/fd")) == len(before)
