"""The counts for metrics: none is lost or doubled by those who count at once, and none can keep a start."""

from __future__ import annotations

import fcntl
import multiprocessing
import os

import pytest

from oci_gpu_hook.base import counts, limits, log
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import AllocationError, InvalidInput


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return str(path)


def add_many(directory):
    for _ in range(50):
        counts.add(directory, {"a": 1, "b": 2})


def test_those_who_count_at_once(directory, monkeypatch):
    monkeypatch.setattr(limits, "COUNTS_LOCK_SECONDS", 60.0)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_many, args=(directory,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert counts.read(directory) == {"a": 200, "b": 400}
    assert os.stat(f"{directory}/{counts.FILE}").st_mode & 0o777 == 0o600


def test_the_time_of_starts_by_bounds(directory):
    for seconds in (0.004, 0.01, 0.011, 99.0):
        counts.started(directory, seconds)
    counts.started(directory, 0.02)
    counts.waited(directory, 3.5)
    assert counts.read(directory) == {
        "starts 0.01": 2,
        "starts 0.025": 2,
        "starts ": 1,
        "start microseconds": 99_045_000,
        "waits": 1,
        "wait microseconds": 3_500_000,
    }


def test_a_lock_that_somebody_holds_costs_the_count_and_no_time(directory, monkeypatch):
    monkeypatch.setattr(limits, "COUNTS_LOCK_SECONDS", 0.05)
    counts.add(directory, {"a": 1})
    with open(f"{directory}/{counts.FILE}") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        counts.add(directory, {"a": 1})
    assert counts.read(directory) == {"a": 1}


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"a": "x"}', b'{"a": -1}', b'{"a": 1.5}', b"\xff" * 99])
def test_a_damaged_file_is_begun_again(directory, damage):
    with open(f"{directory}/{counts.FILE}", "wb") as file:
        file.write(damage)
    os.chmod(file.name, 0o600)
    counts.add(directory, {"a": 2})
    assert counts.read(directory) == {"a": 2}


def test_no_directory_of_others(directory, tmp_path):
    counts.add(f"{tmp_path}/none", {"a": 1})
    assert not os.path.exists(f"{tmp_path}/none")
    os.chmod(directory, 0o777)
    counts.add(directory, {"a": 1})
    assert os.listdir(directory) == []


def test_a_refusal_is_counted_by_its_code(directory):
    log.configure(Config(state_dir=directory, log_journal=False))
    for error in (InvalidInput("a", "b", "c"), AllocationError("a", "b", "c"), AllocationError("a", "b", "c")):
        log.refused("oci-gpu-hook", str(error), error.code)
    assert counts.read(directory) == {"refusals OGH1200": 1, "refusals OGH1300": 2}
