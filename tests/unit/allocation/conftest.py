"""For tests of leases: a state directory of their own, real processes as the containers, and what is logged."""

from __future__ import annotations

import os
import subprocess

import pytest

from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.base.config.model import Config
from tests.unit.allocation.leasing import bundle


@pytest.fixture
def config(tmp_path):
    os.chmod(tmp_path, 0o755)
    return Config(state_dir=str(tmp_path / "state"))


@pytest.fixture
def events(monkeypatch):
    seen = []
    for level in ("info", "warning"):
        monkeypatch.setattr(story.log, level, lambda event, **fields: seen.append((event, fields)))
    return seen


@pytest.fixture
def started():
    """Return a function that starts a container, which is a process that sleeps."""
    processes = {}
    every = []

    def start(name):
        processes[name] = subprocess.Popen(["/bin/sleep", "600"])
        every.append(processes[name])
        return bundle(name, processes[name].pid)

    def kill(name):
        processes[name].kill()
        processes[name].wait()

    start.kill = kill
    start.processes = processes
    yield start
    for process in every:
        process.kill()
        process.wait()
