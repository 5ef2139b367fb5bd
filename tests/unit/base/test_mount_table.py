"""Which of a container's mounts are its own is read from mountinfo, whatever config.json called them."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base.mount_table import own_mounts, shared_mounts

HOST = b"""\
20 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
21 20 0:20 / /run rw shared:2 - tmpfs tmpfs rw
22 20 0:5 / /dev rw shared:3 - devtmpfs none rw
"""
# A rootfs (30) on the host's disk, with a proc and a /dev of its own, a volume of the same disk, the host's /run by a
# recursive bind below that volume, the host's /dev at /host-dev, and a tmpfs within the volume that nobody else has.
INSIDE = b"""\
30 20 254:0 /b/rootfs /b/rootfs rw - ext4 /dev/vda rw
31 30 0:40 / /b/rootfs/proc rw - proc proc rw
32 30 0:41 / /b/rootfs/dev rw - tmpfs tmpfs rw
33 30 254:0 /srv /b/rootfs/data rw - ext4 /dev/vda rw
34 33 0:20 / /b/rootfs/data/run rw - tmpfs tmpfs rw
35 30 0:5 / /b/rootfs/host-dev rw - devtmpfs none rw
36 33 0:42 / /b/rootfs/data/own rw - tmpfs tmpfs rw
"""


def never() -> bytes:
    raise AssertionError("the host's table is not needed")


def test_before_the_runtime_has_pivoted():
    assert own_mounts(HOST + INSIDE, 30, never) == {30, 31, 32, 36}


def test_after_it_has():
    pivoted = INSIDE.replace(b"30 20 ", b"30 30 ").replace(b"/b/rootfs/", b"/").replace(b"/b/rootfs", b"/")
    assert own_mounts(pivoted, 30, lambda: HOST) == {30, 31, 32, 36}


@pytest.mark.parametrize(
    "separator", [b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", "\x85".encode(), "\u2028".encode()]
)
def test_a_name_forges_no_row(separator):
    """Of a container that has pivoted: a row outside its rootfs would keep the host from being asked."""
    pivoted = INSIDE.replace(b"30 20 ", b"30 30 ").replace(b"/b/rootfs/", b"/").replace(b"/b/rootfs", b"/")
    forged = pivoted.replace(b"254:0 /srv ", b"254:0 /srv" + separator + b"99 ")
    assert forged != pivoted
    assert own_mounts(forged, 30, lambda: HOST) == {30, 31, 32, 36}


@pytest.mark.parametrize("order", [reversed, sorted])
def test_the_order_of_lines_says_nothing(order):
    table = b"\n".join(order((HOST + INSIDE).splitlines()))
    assert own_mounts(table, 30, never) == {30, 31, 32, 36}


def test_a_table_without_the_rootfs_makes_nothing_its_own():
    assert own_mounts(HOST, 99, never) == {99}


@pytest.mark.parametrize("host", [HOST, b""])
def test_a_volume_of_the_file_system_that_a_plain_rootfs_is_a_directory_of_is_the_hosts(host):
    """The rootfs is a directory of 40, which is mounted once, and no mount by itself; 41 is another directory of it."""
    inside = b"40 20 0:50 / /srv rw - tmpfs tmpfs rw\n41 40 0:50 /volume /srv/rootfs/data rw - tmpfs tmpfs rw\n"
    inside += b"42 40 0:51 / /srv/rootfs/own rw - tmpfs tmpfs rw\n"
    assert own_mounts(host + inside, 40, lambda: HOST) == {40, 42}


def test_a_loop_of_parents_ends():
    assert own_mounts(b"1 2 0:1 / / rw - x x rw\n2 1 0:2 / /a rw - x x rw\n", 9, never) == {9}


def test_shared_mounts():
    assert shared_mounts(HOST + INSIDE) == {20, 21, 22}
    assert shared_mounts(INSIDE) == frozenset()


def test_a_source_or_option_of_that_name_is_not_propagation():
    line = b"40 30 0:50 / /x rw - fuse shared:7 rw,shared:8\n41 30 0:51 / /y rw master:1 - fuse x rw, shared:9\n"
    assert shared_mounts(line) == frozenset()
