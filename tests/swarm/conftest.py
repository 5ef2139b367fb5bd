"""A swarm of three real dockerd, started once a session (nodes.py)."""

from __future__ import annotations

import subprocess

import pytest

from tests.engines.conftest import needed
from tests.swarm.nodes import Swarm


@pytest.fixture(scope="session")
def joined(machine):
    needed("dockerd", "docker", "ip")
    work = machine.work / "swarm"
    work.mkdir(mode=0o755)
    swarm = Swarm(work, machine.image("debian"))
    yield swarm
    swarm.close()
    subprocess.run(["rm", "-rf", "--one-file-system", work], check=False)


@pytest.fixture
def swarm(joined):
    """The swarm, without services before and after, and without leases then."""
    yield joined
    joined.remove_services()
    assert [node.held() for node in joined.nodes] == [{}] * len(joined.nodes)


def pytest_collection_modifyitems(items):
    for item in items:
        if "joined" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.root)
