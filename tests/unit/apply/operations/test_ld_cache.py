"""The container's ld cache: mounted over, or exchanged on an engine's overlay."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from oci_gpu_hook.apply import cleanup, status
from oci_gpu_hook.apply.journal.changes import FILE, change
from oci_gpu_hook.apply.operations import ld_cache
from oci_gpu_hook.apply.process import open_rootfs
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.formats import ldcache, ldcache_entries
from tests.unit.apply.operations.conftest import library, plan

OF_IMAGE = ldcache.build([library("/usr/lib64/libc.so.6")])
OURS = library("/usr/lib64/libcuda.so.1")


def names(data: bytes) -> list[str]:
    return [entry.path for entry in ldcache_entries.parse(data)]


def cache(container) -> bytes:
    return container.rootfs.read("/etc/ld.so.cache", 1 << 20)


def test_on_a_plain_directory_the_images_file_stays_under_a_mount(container):
    (container.root / "etc").mkdir()
    there = container.root / "etc/ld.so.cache"
    there.write_bytes(OF_IMAGE)
    entry = container.give(plan(ld_cache=(OURS,), image_cache=OF_IMAGE))
    assert names(cache(container)) == ["/usr/lib64/libcuda.so.1", "/usr/lib64/libc.so.6"]
    assert there.read_bytes() == OF_IMAGE
    assert (entry.changes, entry.cached) == ((), ())
    assert list(container.state.iterdir()) == [], "the state file is gone once it is mounted"


def test_on_an_overlay_the_file_is_exchanged_and_what_was_added_is_taken_out(container, tmp_path):
    (container.root / "etc").mkdir()
    (container.root / "etc/ld.so.cache").write_bytes(OF_IMAGE)
    container.inside("mount", "-t", "tmpfs", "tmpfs", str(container.state))
    for name in ("upper", "work"):
        container.inside("mkdir", str(container.state / name))
    layers = f"lowerdir={container.root},upperdir={container.state}/upper,workdir={container.state}/work"
    container.inside("mount", "-t", "overlay", "overlay", "-o", layers, str(container.root))
    with open_rootfs(container.value, container.process) as container.rootfs:
        entry = container.give(plan(ld_cache=(OURS,), image_cache=OF_IMAGE))
        assert "/usr/lib64/libcuda.so.1" in names(cache(container))
        assert "ld.so.cache" not in container.inside("findmnt", "-n", "-o", "TARGET")
        assert entry.changes == (change(FILE, ld_cache.NEW_PATH),)
        assert entry.cached == ("/usr/lib64/libcuda.so.1",)
        cleanup.clean(container.rootfs, entry)
        assert names(cache(container)) == ["/usr/lib64/libc.so.6"]


def test_an_image_of_glibc_without_one_gets_one(container):
    entry = container.give(plan(ld_cache=(OURS,)))
    assert names(cache(container)) == ["/usr/lib64/libcuda.so.1"]
    assert change(FILE, "/etc/ld.so.cache") in entry.changes


def test_musl_reads_none_and_gets_none(container):
    made = plan(ld_cache=(OURS,))
    container.give(made.replace(image=made.image.replace(libc="musl")))
    assert cache(container) == b""


def test_where_it_does_not_list_what_it_was_to_list_it_is_written_whole(container):
    made = plan(ld_cache=(OURS, library("/usr/lib64/libcuda.so")))
    entry = container.give(made)
    container.inside("umount", str(container.root / "etc/ld.so.cache"))
    (finding,) = container.lost(entry)
    assert str(finding) == (
        "the ld cache does not list '/usr/lib64/libcuda.so.1' and 1 more: it is gone; run `oci-gpu repair c1`"
    )
    assert (finding.kind, finding.repairable) == ("ld-cache", True)
    (container.root / "etc/ld.so.cache").write_bytes(OF_IMAGE)
    (finding,) = container.lost(entry)
    assert "it was rewritten since" in str(finding)
    part = status.lost_part(made, entry, [finding])
    assert part.ld_cache == made.ld_cache
    container.give(part)
    assert container.lost(entry) == []


def test_it_shows_what_will_be_listed():
    assert ld_cache.show(plan(ld_cache=(OURS,))) == {"ldCache": ["/usr/lib64/libcuda.so.1"]}


def test_what_takes_the_place_of_etc_meanwhile_is_left_alone(tmp_path):
    for name in ("etc", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ld.so.cache").write_bytes(b"the image's")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with Rootfs(fd) as rootfs, Directories(rootfs) as directories:
        directories.find("/etc")  # what is judged
        (tmp_path / "etc").rename(tmp_path / "judged")
        (tmp_path / "other").rename(tmp_path / "etc")
        ld_cache.exchange(directories, b"new")
    assert (tmp_path / "judged/ld.so.cache").read_bytes() == b"new"
    assert (tmp_path / "etc/ld.so.cache").read_bytes() == b"the image's"


def test_restoring_leaves_a_volume_alone_that_is_mounted_at_etc(tmp_path, monkeypatch):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / os.path.basename(ld_cache.NEW_PATH)).write_bytes(b"a file of the volume")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with Rootfs(fd) as rootfs:
        monkeypatch.setattr(rootfs, "is_of_host", lambda _mount: True)
        ld_cache.restore(rootfs, ())
    assert os.listdir(tmp_path / "etc") == [os.path.basename(ld_cache.NEW_PATH)]


@pytest.fixture
def mounted(tmp_path):
    """Mount a cache in a namespace of its own, and return its path there, below /proc, and the state file's."""
    holders = []

    def mount(data: bytes) -> tuple[str, str]:
        (tmp_path / "place").touch()
        child = os.fork()
        if child == 0:
            try:
                syscalls.unshare(syscalls.CLONE_NEWNS)
                root = os.open("/", os.O_PATH)
                syscalls.mount_setattr(root, 0, syscalls.MS_PRIVATE, syscalls.AT_RECURSIVE)
                onto = os.open(tmp_path / "place", os.O_PATH)
                tree = ld_cache._mounted(data)
                if tree is None:
                    tree = ld_cache._mounted_by_file(data, str(tmp_path / "state"))
                syscalls.move_mount(tree, onto)
                (tmp_path / "ready").touch()
                signal.pause()
            finally:
                os._exit(1)
        holders.append(child)
        deadline = time.monotonic() + 10
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return f"/proc/{child}/root{tmp_path}/place", str(tmp_path / "state")

    yield mount
    for holder in holders:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
class TestMount:
    def test_a_file_system_of_its_own_has_room_for_it_and_no_more(self, mounted):
        data = os.urandom(300_000)
        path, state_file = mounted(data)
        assert Path(path).read_bytes() == data
        room = os.statvfs(path)
        assert room.f_bavail == 0
        assert room.f_ffree == 0
        assert room.f_blocks * room.f_frsize < len(data) + 4096
        with pytest.raises(OSError, match="Read-only"):
            os.open(path, os.O_WRONLY)
        assert not os.path.exists(state_file)  # nothing of the state directory is taken

    def test_kernels_that_copy_no_part_of_a_detached_mount(self, mounted, monkeypatch):
        def refuse(*_arguments):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        monkeypatch.setattr(syscalls, "clone_file_in", refuse)
        path, state_file = mounted(b"data")
        assert Path(path).read_bytes() == b"data"
        assert os.path.samestat(os.stat(path), os.stat(state_file))
