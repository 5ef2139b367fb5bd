"""Symbolic links: what they take the place of, and what comes back."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.apply import status
from oci_gpu_hook.apply.journal.changes import LINK, change
from oci_gpu_hook.apply.operations import symlink
from oci_gpu_hook.base.errors import UnsafeRootfs
from oci_gpu_hook.devices.edits import Symlink
from tests.unit.apply.operations.conftest import bind, plan

LINK_1 = Symlink(path="/usr/lib64/libcuda.so", target="libcuda.so.1")
LINK_2 = Symlink(path="/usr/lib64/libcuda.so.1", target="libcuda.so.580")


def test_another_link_makes_way_and_comes_back(container):
    there = container.root / "usr/lib64/libcuda.so"
    there.symlink_to("of-the-image")
    before = container.tree()
    entry = container.give(plan(links=(LINK_1,)))
    assert entry.changes == (change(LINK, LINK_1.path, target="libcuda.so.1", was="of-the-image"),)
    assert os.readlink(there) == "libcuda.so.1"
    container.take_back(entry)
    assert container.tree() == before


def test_the_same_link_is_no_change_and_stays(container):
    (container.root / "usr/lib64/libcuda.so").symlink_to("libcuda.so.1")
    entry = container.give(plan(links=(LINK_1,)))
    assert entry.changes == ()
    container.take_back(entry)
    assert os.readlink(container.root / "usr/lib64/libcuda.so") == "libcuda.so.1"


def test_a_file_of_the_image_stays_under_a_mount_of_what_was_meant(container, source):
    there = container.root / "usr/lib64/libcuda.so"
    there.write_text("of the image")
    container.give(plan(links=(LINK_1, LINK_2), mounts=(bind(source, "/usr/lib64/libcuda.so.580"),)))
    assert container.inside("cat", str(there)) == "of the driver"
    assert there.read_text() == "of the image"


def test_a_directory_in_its_place_is_refused_and_nothing_stays(container):
    (container.root / "usr/lib64/libcuda.so").mkdir()
    before = container.tree()
    with pytest.raises(UnsafeRootfs, match="the image has a directory there"):
        container.give(plan(links=(LINK_2, LINK_1)))
    assert container.tree() == before


@pytest.mark.parametrize("how", ["gone", "elsewhere", "a file"])
def test_one_that_is_changed_is_found_and_put_back_alone(container, how):
    made = plan(links=(LINK_1, LINK_2))
    entry = container.give(made)
    there = container.root / "usr/lib64/libcuda.so"
    there.unlink()
    {"gone": lambda: None, "elsewhere": lambda: there.symlink_to("x"), "a file": lambda: there.write_text("x")}[how]()
    (finding,) = container.lost(entry)
    assert str(finding) == f"link '{LINK_1.path}': is gone, or leads elsewhere; run `oci-gpu repair c1`"
    assert (finding.kind, finding.repairable) == ("link", True)
    part = status.lost_part(made, entry, [finding])
    assert part.links == (LINK_1,)
    if how != "a file":
        container.give(part)
        assert container.lost(entry) == []


def test_it_shows_links():
    assert symlink.show(plan(links=(LINK_1,))) == {"links": [{"path": LINK_1.path, "target": "libcuda.so.1"}]}
