"""The ld cache is exchanged in the directory that was found to be the container's alone, and in no other."""

from __future__ import annotations

import os

from oci_gpu_hook.apply import ld_cache
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs


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
