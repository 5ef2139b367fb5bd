"""What tells a directory from the next one of its inode number, on file systems that keep no time of birth."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from oci_gpu_hook.base import syscalls


@pytest.fixture
def no_btime(tmp_path):
    """A file system of ext4 with inodes that are too small for a time of birth."""
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("needs root and mkfs.ext4")
    image = tmp_path / "image"
    image.write_bytes(bytes(8 << 20))
    subprocess.run(["mkfs.ext4", "-q", "-I", "128", image], check=True, capture_output=True)
    place = tmp_path / "place"
    place.mkdir()
    mounted = subprocess.run(["mount", "-o", "loop", image, place], check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no loop devices here: {mounted.stderr}")
    yield place
    subprocess.run(["umount", place], check=True)


def identity(path) -> tuple[int, int]:
    fd = os.open(path, os.O_PATH)
    try:
        return os.fstat(fd).st_ino, syscalls.birth(fd)
    finally:
        os.close(fd)


def test_an_inode_number_that_is_used_again(no_btime):
    (no_btime / "a").mkdir()
    first = identity(no_btime / "a")
    assert first == identity(no_btime / "a")
    assert first[1]
    (no_btime / "a").rmdir()
    (no_btime / "a").mkdir()
    again = identity(no_btime / "a")
    assert first[0] == again[0], "the number is not used again here"
    assert first[1] != again[1]


def test_a_time_of_birth_where_it_is_kept(tmp_path):
    found = identity("/dev/shm")
    assert found[1] > 10**18  # nanoseconds since 1970
