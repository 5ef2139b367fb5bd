"""The specifications of further vendors, for tasks of the unified containerizer."""

from __future__ import annotations

import stat

import pytest

from tests.mesos.conftest import leases
from tests.mesos.test_cdi import described  # noqa: F401
from tests.runtime.npu_files import FILES
from tests.runtime.vendors import opens


@pytest.mark.parametrize("name", FILES)
def test_a_task_gets_the_devices(described, simulated, name):  # noqa: F811
    file = FILES[name](described.vendors)
    ended = described.run(*file.seen, environment={"OCI_GPU_DEVICES": file.device})
    if file.refused_of_tasks:
        assert file.refused_of_tasks in ended.stderr
    else:
        assert {probe: ended.seen()[probe] for probe in file.seen} == file.seen
    assert leases(simulated) == {}


def test_a_task_gets_block_devices_and_fifos(described):  # noqa: F811
    disk = described.vendors.node("disk", 240, 7, kind=stat.S_IFBLK)
    described.describe("every", deviceNodes=[disk, {"path": "/dev/fifo", "type": "p", "fileMode": 0o600}])
    probes = [*opens("disk"), "stat=/dev/disk", "stat=/dev/fifo"]
    seen = described.run(*probes, environment={"OCI_GPU_DEVICES": "every.com/thing=one"}).seen()
    assert [seen[probe] for probe in probes] == ["ENXIO", "b 240:7 666 0:0", "p 0 600 0:0"]
