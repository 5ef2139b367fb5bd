"""The ld cache is exchanged in the directory that was found to be the container's alone, and in no other."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from oci_gpu_hook.apply import ld_cache
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.base import syscalls


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


def test_restoring_leaves_a_volume_alone_that_is_mounted_at_etc(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / os.path.basename(ld_cache.NEW_PATH)).write_bytes(b"a file of the volume")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with Rootfs(fd) as rootfs:
        rootfs.is_of_host = lambda _mount: True
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
                tree, _, _ = ld_cache.prepare_mount(onto, data, str(tmp_path / "state"))
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
