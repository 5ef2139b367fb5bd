"""A cluster of real Slurm, started once a session (cluster.py)."""

from __future__ import annotations

import os
import signal

import pytest

from tests.runtime.fixtures import oci_gpu
from tests.runtime.simulated import SimulatedHost
from tests.slurm.cluster import GPUS, Cluster, layout, missing


@pytest.fixture(scope="session")
def eight(machine) -> SimulatedHost:
    """A host with eight GPUs."""
    directory = machine.work / "eight"
    oci_gpu("simulate", directory, "--gpus", GPUS)
    return SimulatedHost(directory)


@pytest.fixture(scope="session")
def running(machine, eight):
    if absent := missing():
        pytest.skip(f"not installed: {' '.join(absent)}; run: make test, as root")
    work = machine.work / "slurm"
    work.mkdir(mode=0o755)
    cluster = Cluster(work, machine.image("debian"), eight, layout())
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(running):
    """The cluster, with an empty queue before and after, and nothing left of the containers."""
    yield running
    running.cancel_all()
    assert running.leases() == []
    assert [name for name in os.listdir(running.work / "spool") if name.startswith("oci-job")] == []


@pytest.fixture
def restarted(running):
    """Restart slurmd with other files, and with its own again afterwards."""

    def restart() -> None:
        running.stop_slurmd(signal.SIGTERM)
        running.start_slurmd()

    yield restart
    running.constrain(True)
    restart()


def pytest_collection_modifyitems(items):
    for item in items:
        if "running" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.root)
