"""The C library of an image is told by its loader, of which a start usually reads only the end."""

from __future__ import annotations

import os
from unittest.mock import patch

import pytest

from oci_gpu_hook.apply import image_facts
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs

END = image_facts._LOADER_END
PATH = image_facts._CACHE_PATH


def libc_of(directory, loader):
    """Return what `_libc` says of an image with this loader, and how many bytes of it were read."""
    path = directory / image_facts._LOADER[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(loader)
    read = []
    pread = os.pread

    def counted(fd, size, at):
        data = pread(fd, size, at)
        read.append(len(data))
        return data

    with Rootfs(os.open(directory, os.O_PATH | os.O_DIRECTORY)) as rootfs, patch("os.pread", counted):
        return image_facts._libc(rootfs), sum(read)


@pytest.mark.parametrize("after", [0, 40_000, END - len(PATH) - 1])
def test_the_end_is_enough_where_the_path_is_there(tmp_path, after):
    loader = bytes(150_000) + PATH + bytes(after)
    assert libc_of(tmp_path, loader) == ("glibc", END)


@pytest.mark.parametrize("after", [END - len(PATH), END - 5, END, 120_000])
def test_a_path_before_the_end_is_found(tmp_path, after):
    loader = bytes(150_000) + PATH + bytes(after)
    assert libc_of(tmp_path, loader) == ("glibc", END + len(loader))


@pytest.mark.parametrize("after", [0, END - len(PATH), END])
def test_the_end_of_a_longer_path_is_not_the_cache(tmp_path, after):
    """As of a loader out of Nix's or Guix' store; also where the part that is read begins right behind the rest."""
    assert libc_of(tmp_path, bytes(150_000) + b"/nix/store/x" + PATH + bytes(after))[0] == ""


def test_a_small_loader_is_read_whole(tmp_path):
    assert libc_of(tmp_path, b"\0" + PATH)[0] == "glibc"
    assert libc_of(tmp_path, b"gcompat")[0] == ""
