"""What is said of a container that may not use its devices any more."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from oci_gpu_hook.apply import status
from oci_gpu_hook.apply.device_access import cgroup
from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.apply.systemd import drop_in

NODES = {"/dev/nvidia0": (195, 0), "/dev/nvidiactl": (195, 255)}
ENTRY = Entry(
    id="c1",
    pid=7,
    start_time=1,
    bundle="/b",
    rootfs="/b/rootfs",
    rootfs_identity=(1, 2),
    gpus=("GPU-1",),
    changes=(),
    nodes=tuple(NODES.values()),
    node_paths=tuple(NODES),
)


@pytest.fixture
def host(monkeypatch):
    """What the kernel and systemd answer: the nodes that are refused, the unit, whether it has a drop-in."""
    host = SimpleNamespace(refused=(), unit="", covered=True)

    @contextmanager
    def find(_pid, _path):
        yield SimpleNamespace(path="/sys/fs/cgroup/x")

    monkeypatch.setattr(cgroup, "find", find)
    monkeypatch.setattr(cgroup, "refused", lambda _found, nodes: tuple(node for node in nodes if node in host.refused))
    monkeypatch.setattr(drop_in, "restricted_unit", lambda _path: host.unit)
    monkeypatch.setattr(drop_in, "covers", lambda _unit, _nodes: host.covered)
    return host


def found(entry=ENTRY):
    return list(status._access(entry, f"run `oci-gpu repair {entry.id}`"))


def test_what_may_be_used_is_fine(host):
    host.unit = "docker-1.scope"
    assert found() == []


def test_a_device_that_the_cgroup_refuses(host):
    host.refused = ((195, 0),)
    (finding,) = found()
    assert (finding.kind, finding.repairable) == ("rights", True)
    assert str(finding) == (
        "the device cgroup refuses /dev/nvidia0 (195:0): its rules were rewritten since: by a reload of systemd, or an "
        "update of the container by its engine; run `oci-gpu repair c1`"
    )


def test_a_unit_without_its_drop_in(host):
    host.unit, host.covered = "docker-1.scope", False
    (finding,) = found()
    assert (finding.kind, finding.repairable) == ("drop-in", True)
    assert str(finding) == (
        "docker-1.scope has no drop-in for its GPUs: systemd restricts its devices, and its next reload may take the "
        "GPUs away; run `oci-gpu repair c1`"
    )


def test_the_entry_of_an_older_hook_has_no_names(host):
    host.refused = ((195, 0),)
    (finding,) = found(ENTRY.replace(node_paths=()))
    assert "refuses a device (195:0)" in finding.what
