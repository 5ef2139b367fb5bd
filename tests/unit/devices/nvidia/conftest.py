"""For tests of a host: one with two GPUs that has not changed for a while, and how often it is looked at."""

from __future__ import annotations

import pytest

from oci_gpu_hook.devices.nvidia import discovery
from tests.unit.devices.nvidia import driver_trees as trees


@pytest.fixture
def x86_64(monkeypatch):
    """A machine of that architecture, whichever this one is."""
    trees.machine(monkeypatch)


@pytest.fixture
def host(tmp_path, x86_64):
    """A host with two GPUs that has not changed for a while; returns its configuration."""
    trees.driver(tmp_path / "driver")
    trees.proc(tmp_path / "proc", gpus=2)
    config = trees.config(tmp_path)
    trees.settle(tmp_path)
    return config


@pytest.fixture
def discoveries(monkeypatch):
    """Count how often the host is looked at."""
    count: list[int] = []
    real = discovery.discover

    def counted(config):
        count.append(1)
        return real(config)

    monkeypatch.setattr(discovery, "discover", counted)
    return count
