"""Files of the host in a container, and what is said where one is gone."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.apply import status
from oci_gpu_hook.apply.operations import bind
from oci_gpu_hook.base.errors import DriverError, UnsafeRootfs
from tests.unit.apply.operations.conftest import bind as a_bind
from tests.unit.apply.operations.conftest import plan

PATH = "/usr/lib64/libcuda.so.1"


@pytest.fixture
def given(container, source):
    made = plan(mounts=(a_bind(source, PATH), a_bind(source, "/usr/lib64/other")))
    return container.give(made), made


def test_it_is_read_only_and_shows_the_hosts(container, given):
    assert container.inside("cat", str(container.root / "usr/lib64/libcuda.so.1")) == "of the driver"
    options = container.inside("findmnt", "-n", "-o", "OPTIONS", str(container.root / "usr/lib64/libcuda.so.1"))
    assert {"ro", "nosuid", "nodev"} <= set(options.strip().split(","))


def test_one_that_is_unmounted_is_found_and_put_back_alone(container, given):
    entry, made = given
    container.inside("umount", str(container.root / "usr/lib64/libcuda.so.1"))
    (finding,) = container.lost(entry)
    assert str(finding) == f"'{PATH}' is not mounted: it was unmounted since; run `oci-gpu repair c1`"
    assert (finding.kind, finding.repairable, finding.stale) == ("mount", True, False)
    part = status.lost_part(made, entry, [finding])
    assert [mount.container_path for mount in part.edits.mounts] == [PATH]
    again = container.give(part)
    assert container.lost(entry.replace(mounted=(entry.mounted[1], *again.mounted))) == []


def test_another_mount_at_its_place_is_not_the_hooks(container, given, tmp_path):
    entry, _ = given
    (tmp_path / "anybodys").touch()
    target = str(container.root / "usr/lib64/libcuda.so.1")
    container.inside("mount", "--bind", str(tmp_path / "anybodys"), target)
    (finding,) = container.lost(entry)
    assert (finding.kind, finding.path) == ("mount", PATH)
    with pytest.raises(UnsafeRootfs, match="is not the mount that the hook made there"):
        bind.take_away(entry, PATH, container.process, container.rootfs)
    assert "anybodys" in container.inside("findmnt", "-n", "-o", "FSROOT", target)


def test_one_whose_file_is_deleted_is_stale_and_can_be_taken_away(container, given, source):
    entry, _ = given
    source.unlink()
    found = container.lost(entry)
    assert [(finding.path, finding.stale, finding.repairable) for finding in found] == [
        (PATH, True, True),
        ("/usr/lib64/other", True, True),
    ]
    assert str(found[0]) == f"'{PATH}': shows what the host has deleted or replaced; run `oci-gpu repair c1`"
    bind.take_away(entry, PATH, container.process, container.rootfs)
    assert container.inside("cat", str(container.root / "usr/lib64/libcuda.so.1")) == ""


def test_without_proof_a_stale_one_is_not_the_hooks_to_take_away(container, given, source):
    """An entry of an older hook: what lies at the path may be anybody's mount by now."""
    entry, _ = given
    source.unlink()
    former = entry.replace(mounted=())
    finding = container.lost(former)[0]
    assert (finding.kind, finding.repairable, finding.remedy) == ("mount", False, "restart the container")


def test_text_of_a_container_stays_one_line(container):
    path = "/usr/lib/\x1b[31m\nall is well"
    (finding,) = container.lost(container.entry(changes=(), mounts=(path,)))
    assert str(finding).isprintable()


def test_a_file_that_the_host_has_no_more_fails_before_anything_is_made(container, source):
    before = container.tree()
    with pytest.raises(DriverError, match="no longer exists"):
        container.give(plan(mounts=(a_bind(source, PATH), a_bind(source.parent / "gone", "/usr/lib64/deep/gone"))))
    assert container.tree() == before


def test_no_descriptor_stays_open(container, source):
    before = len(os.listdir("/proc/self/fd"))
    container.give(plan(mounts=(a_bind(source, PATH),)))
    assert len(os.listdir("/proc/self/fd")) == before
