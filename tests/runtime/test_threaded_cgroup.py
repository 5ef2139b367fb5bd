"""A runtime makes a container's cgroup threaded where processes are above it, as in containers with an engine."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from tests.runtime.test_devices import assert_reaches, reach

pytestmark = pytest.mark.root


@pytest.fixture
def threaded(runc_v2):
    """runc with its containers in a threaded domain; its cgroups are removed at the end."""
    name = f"{runc_v2.cgroup}-threaded-{uuid.uuid4().hex[:8]}"
    domain = runc_v2.host.path(f"/sys/fs/cgroup{name}")
    (domain / "other").mkdir(parents=True)
    (domain / "other/cgroup.type").write_text("threaded")
    yield replace(runc_v2, cgroup=name)
    for path in sorted(domain.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
    domain.rmdir()


def test_a_container_in_a_threaded_cgroup_gets_its_devices(threaded, make_bundle, simulated):
    bundle = make_bundle(*reach(simulated), gpus="0")
    assert_reaches(threaded.run(bundle).seen(), simulated, (0,))
    with threaded.started(make_bundle(args=("/bin/sleep", "60"), gpus="0", name="other")) as container:
        kind = threaded.host.path(f"/sys/fs/cgroup{threaded.cgroup}/{container.id}/cgroup.type")
        assert kind.read_text() == "threaded\n"
