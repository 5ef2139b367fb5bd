"""`update` of a running container, which writes its limits anew: what becomes of its devices. No systemd here."""

from __future__ import annotations

import json

import pytest

from tests.runtime.test_devices import assert_reaches, reach

pytestmark = pytest.mark.root


@pytest.fixture
def resources(runtime, directory):
    """A file of limits: one where this host can set it, else none, which writes the rules anew all the same."""
    controllers = runtime.host.path("/sys/fs/cgroup/cgroup.controllers")
    limits = not controllers.exists() or "pids" in controllers.read_text().split()
    path = directory / "resources.json"
    path.write_text(json.dumps({"pids": {"limit": 100}} if limits else {}))
    return path


@pytest.mark.parametrize("times", [1, 2])
def test_the_runtimes_update_leaves_the_devices(runtime, make_bundle, simulated, resources, times):
    with runtime.started(make_bundle(args=("/bin/sleep", "60"), gpus="0")) as container:
        for _ in range(times):
            result = runtime._call("update", "--resources", resources, container.id)
            assert result.status == 0, result.stderr
        assert_reaches(container.exec("/probe", *reach(simulated)).seen(), simulated, (0,))
