"""For tests of leases: a state directory of their own, real processes as the containers, and what is logged."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from oci_gpu_hook.base import log
from oci_gpu_hook.base.config.model import Config
from tests.unit.allocation.leasing import bundle


@pytest.fixture
def config(tmp_path):
    os.chmod(tmp_path, 0o755)
    return Config(state_dir=str(tmp_path / "state"))


@pytest.fixture
def events(monkeypatch):
    seen: list[tuple[str, dict[str, Any]]] = []
    for level in ("info", "warning"):
        monkeypatch.setattr(log, level, lambda event, **fields: seen.append((event, fields)))
    return seen


class Containers:
    """Starts containers by name, and knows their processes."""

    def __init__(self):
        self.processes: dict[str, subprocess.Popen] = {}
        self._every: list[subprocess.Popen] = []

    def __call__(self, name):
        self.processes[name] = subprocess.Popen(["/bin/sleep", "600"])
        self._every.append(self.processes[name])
        return bundle(name, self.processes[name].pid)

    def kill(self, name):
        self.processes[name].kill()
        self.processes[name].wait()

    def end(self):
        for process in self._every:
            process.kill()
            process.wait()


@pytest.fixture
def started():
    """A function that starts a container, which is a process that sleeps."""
    containers = Containers()
    yield containers
    containers.end()
