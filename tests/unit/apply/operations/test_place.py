"""Directories and files that edits go into and onto: what is looked at, made, refused."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.apply.journal.changes import DIRECTORY, FILE, LINK, change
from oci_gpu_hook.apply.operations.preflight import Preflight
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.base.errors import UnsafeRootfs
from tests.unit.apply.operations.conftest import NULL, bind, plan


def look(container, *paths):
    with Directories(container.rootfs) as directories:
        seen = Preflight(container.rootfs, directories, frozenset(), root_readonly=False)
        for path in paths:
            seen.file(path)
    return seen


def test_directories_come_before_what_is_in_them_and_once(container):
    seen = look(container, "/opt/driver/one", "/opt/driver/other")
    assert seen.changes == [
        change(DIRECTORY, "/opt"),
        change(DIRECTORY, "/opt/driver"),
        change(FILE, "/opt/driver/one"),
        change(FILE, "/opt/driver/other"),
    ]
    assert seen.absent == {"/opt/driver/one", "/opt/driver/other"}


def test_a_directory_that_another_start_makes_while_this_one_looks(container, monkeypatch):
    """Containers share a rootfs: several tasks of one Slurm job, each by a hook of its own."""
    find = Directories.find

    def find_and_lose_the_race(self, path):
        found = find(self, path)
        if path == "/opt/driver" and found is None:
            (container.root / "opt/driver").mkdir(parents=True, exist_ok=True)
        return found

    monkeypatch.setattr(Directories, "find", find_and_lose_the_race)
    seen = look(container, "/opt/driver/one")
    assert seen.changes == [change(FILE, "/opt/driver/one")]


def test_a_file_that_is_there_is_no_change(container):
    (container.root / "usr/lib64/there").touch()
    seen = look(container, "/usr/lib64/there")
    assert (seen.changes, seen.absent) == ([], set())


def test_a_link_that_leads_nowhere_makes_way_and_comes_back(container, source):
    (container.root / "usr/lib64/libcuda.so.1").symlink_to("gone")
    before = container.tree()
    entry = container.give(plan(mounts=(bind(source, "/usr/lib64/libcuda.so.1"),)))
    assert entry.changes == (
        change(LINK, "/usr/lib64/libcuda.so.1", was="gone"),
        change(FILE, "/usr/lib64/libcuda.so.1"),
    )
    container.take_back(entry)
    assert container.tree() == before


def test_what_is_in_a_mount_of_the_container_passes_with_it(container, source):
    container.inside("mount", "-t", "tmpfs", "tmpfs", str(container.root / "usr/lib64"))
    entry = container.give(plan(mounts=(bind(source, "/usr/lib64/d/libcuda.so.1"),)))
    assert [passing for *_, passing in entry.changes] == [True, True]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkdir, "directory"),
        (os.mkfifo, "FIFO"),
        (lambda path: os.mknod(path, 0o20600, os.makedev(1, 5)), "device node of other numbers"),
    ],
)
def test_what_is_no_file_stays_and_is_named(container, source, make, kind):
    make(container.root / "usr/lib64/libcuda.so.1")
    before = container.tree()
    with pytest.raises(UnsafeRootfs, match=f"the image has a {kind} there"):
        container.give(plan(mounts=(bind(source, "/usr/lib64/libcuda.so.1"),)))
    assert container.tree() == before


def test_nothing_is_mounted_on_the_root_directory_or_the_kernels_files(container, source):
    container.inside("mount", "--bind", "/proc", str(container.root / "dev"))
    (container.root / "usr/lib64/out").symlink_to("/")
    (container.root / "usr/lib64/version").symlink_to("/dev/version")
    for path, where in (("/usr/lib64/out", "the root directory"), ("/usr/lib64/version", "the kernel's files")):
        with pytest.raises(UnsafeRootfs, match=f"leads to {where}"):
            container.give(
                plan(mounts=(bind(source.parent if "out" in path else source, path, directory="out" in path),))
            )


def test_nothing_is_made_in_a_volume(container, tmp_path):
    """But a node is bound onto an empty file of one: an engine within an engine leaves such files in /dev."""
    volume = tmp_path / "volume"
    volume.mkdir()
    container.inside("mount", "--bind", str(volume), str(container.root / "dev"))
    with pytest.raises(UnsafeRootfs, match="is a volume of the host"):
        container.give(plan(device_nodes=(NULL,)))
    assert os.listdir(volume) == []
    (volume / "null").touch()
    assert container.give(plan(device_nodes=(NULL,))).changes == ()
    assert container.inside("stat", "-c", "%t:%T", str(container.root / "dev/null")) == "1:3\n"
    assert os.listdir(volume) == ["null"]
