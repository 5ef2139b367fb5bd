"""Device nodes: made or bound, and compared with the host's."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.apply import status
from oci_gpu_hook.apply.journal.changes import FILE, NODE, change
from oci_gpu_hook.base.errors import DriverError, UnsafeRootfs
from tests.unit.apply.operations.conftest import NULL, plan

ZERO = NULL.replace(path="/dev/zero", host_path="/dev/zero", minor=5)


def test_it_is_made_with_its_numbers_mode_and_owner(container):
    entry = container.give(plan(device_nodes=(NULL.replace(file_mode=0o640, gid=7),)))
    made = (container.root / "dev/null").lstat()
    assert (made.st_rdev, made.st_mode & 0o777, made.st_gid) == (os.makedev(1, 3), 0o640, 7)
    assert entry.changes == (change(NODE, "/dev/null", device=os.makedev(1, 3)), change(FILE, "/dev/null"))


@pytest.mark.parametrize("why", ["user namespace", "nodev"])
def test_where_it_would_be_useless_the_hosts_is_bound(container, why):
    if why == "nodev":
        container.inside("mount", "-t", "tmpfs", "-o", "nodev", "tmpfs", str(container.root / "dev"))
    else:
        container.value.namespaces = frozenset({"mount", "user"})
    container.give(plan(device_nodes=(NULL,)))
    inside = str(container.root / "dev/null")
    assert container.inside("stat", "-c", "%t:%T", inside) == "1:3\n"
    assert container.inside("findmnt", "-n", "-o", "TARGET", inside).strip() == inside


def test_another_device_in_its_place_is_refused(container):
    os.mknod(container.root / "dev/null", 0o20666, os.makedev(1, 5))
    with pytest.raises(UnsafeRootfs, match="device node of other numbers"):
        container.give(plan(device_nodes=(NULL,)))
    assert (container.root / "dev/null").lstat().st_rdev == os.makedev(1, 5)


def test_a_node_of_the_host_that_is_another_by_now_is_not_bound(container):
    container.value.namespaces = frozenset({"mount", "user"})
    with pytest.raises(DriverError, match="is not the character device 1:3 any more"):
        container.give(plan(device_nodes=(NULL.replace(host_path="/dev/zero"),)))
    assert os.listdir(container.root / "dev") == []


@pytest.mark.parametrize("how", ["gone", "another"])
def test_one_that_is_changed_is_found_and_put_back_alone(container, how):
    made = plan(device_nodes=(NULL, ZERO))
    entry = container.give(made)
    there = container.root / "dev/null"
    there.unlink()
    if how == "another":
        os.mknod(there, 0o20666, os.makedev(1, 7))
    (finding,) = container.lost(entry)
    words = {"gone": "is not there", "another": "is device 1:7 instead of 1:3"}[how]
    assert str(finding) == f"device '/dev/null': {words}; run `oci-gpu repair c1`"
    assert (finding.kind, finding.repairable) == ("node", True)
    part = status.lost_part(made, entry, [finding])
    assert part.edits.device_nodes == (NULL,)
    if how == "gone":
        container.give(part)
        assert container.lost(entry) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((1, 9), "given as 1:9: the host's is 1:3 now; restart"),
        (None, "given as 1:3: the host no longer has it; restart"),
    ],
)
def test_what_has_changed_on_the_host_needs_a_restart(container, given, words):
    path = "/dev/null" if given else "/dev/no-such-node"
    entry = container.entry(changes=(), nodes=(given or (1, 3),), node_paths=(path,))
    (finding,) = container.lost(entry)
    assert words in str(finding)
    assert (finding.kind, finding.repairable) == ("node", False)


def test_no_node_of_other_numbers_than_were_given_is_put_back(container):
    """What a plan has today is not what the container was given."""
    entry = container.give(plan(device_nodes=(NULL,)))
    (container.root / "dev/null").unlink()
    found = container.lost(entry)
    assert status.lost_part(plan(device_nodes=(NULL.replace(minor=8),)), entry, found).edits.device_nodes == ()
