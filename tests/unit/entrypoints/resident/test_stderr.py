"""What a worker writes to its front's stderr: it never waits for long, and writes no more than a limit."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager

import pytest

from oci_gpu_hook.base import limits, streams
from oci_gpu_hook.entrypoints.resident.stderr import Stderr


@contextmanager
def stderr_in_a_pipe():
    """Have a pipe as stderr; yield its reading end."""
    reading, writing = os.pipe()
    kept = os.dup(2)
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield reading
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(reading)


@pytest.fixture
def through(monkeypatch):
    """Have base.streams write as a worker does."""

    def begin(has_ended=lambda: False) -> None:
        monkeypatch.setattr(streams, "_writes", Stderr(has_ended).write)

    return begin


def test_what_is_said_arrives(through):
    with stderr_in_a_pipe() as reading:
        through()
        streams.say("one")
        streams.say("two")
        assert os.read(reading, 100) == b"one\ntwo\n"


def test_nobody_who_reads_is_waited_for_once(through, monkeypatch):
    monkeypatch.setattr(limits, "RESIDENT_STDERR_SECONDS", 0.3)
    monkeypatch.setattr(limits, "RESIDENT_STDERR", 1 << 20)
    with stderr_in_a_pipe() as reading:
        flags = fcntl.fcntl(2, fcntl.F_GETFL)
        through()
        began = time.monotonic()
        for _ in range(5):
            streams.write(bytes(100_000))
        assert 0.3 <= time.monotonic() - began < 1.5
        assert fcntl.fcntl(2, fcntl.F_GETFL) == flags
        assert len(os.read(reading, 1 << 20)) == 65536


def test_a_front_that_has_ended_is_not_waited_for(through, monkeypatch):
    monkeypatch.setattr(limits, "RESIDENT_STDERR", 1 << 20)
    with stderr_in_a_pipe():
        through(lambda: True)
        began = time.monotonic()
        streams.write(bytes(100_000))
        assert time.monotonic() - began < 0.5


def test_a_start_says_no_more_than_the_limit(through, monkeypatch):
    monkeypatch.setattr(limits, "RESIDENT_STDERR", 10)
    with stderr_in_a_pipe() as reading:
        through()
        streams.write(b"123456")
        streams.write(b"789012")
        streams.write(b"345")
        assert os.read(reading, 100) == b"1234567890"


def test_a_closed_stderr_is_no_error(through):
    with stderr_in_a_pipe():
        os.close(2)
        through()
        streams.write(b"nobody hears this")
