"""Kernel tables with any bytes in their names: rows end at newlines alone, and what does not parse is the host's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_gpu_hook.base import mount_table

# What a name may hold: the kernel escapes space, tab, newline and backslash, and nothing else but NUL is impossible.
NAMES = st.binary(min_size=1, max_size=20).map(
    lambda raw: (
        raw.replace(b"\0", b"x")
        .replace(b"\\", b"\\134")
        .replace(b" ", b"\\040")
        .replace(b"\t", b"\\011")
        .replace(b"\n", b"\\012")
    )
)
ROWS = st.lists(
    st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(0, 9), NAMES, NAMES, st.booleans()), max_size=30
)


def table(rows):
    return b"".join(
        b"%d %d 0:%d /%b /%b rw%b - tmpfs %b rw\n"
        % (number, parent, device, root, point, b" shared:%d" % number if shared else b"", root)
        for number, parent, device, root, point, shared in rows
    )


@given(ROWS)
def test_every_row_is_one_mount(rows):
    found = list(mount_table.mounts(table(rows)))
    assert [(row[0], row[1], row[3], row[4]) for row in found] == [
        (number, parent, b"/" + root, b"/" + point) for number, parent, _, root, point, _ in rows
    ]
    assert mount_table.shared_mounts(table(rows)) == {row[0] for row in rows if row[5]}
    assert {mount_table.file_system(row[5]) for row in found} <= {(b"tmpfs", b"rw")}


@given(st.binary(max_size=400))
def test_no_bytes_are_an_exception(raw):
    list(mount_table.mounts(raw))
    list(mount_table.cgroups(raw))
    mount_table.shared_mounts(raw + b" shared:")
    assert mount_table.own_mounts(raw, 7, lambda: raw) >= {7}


@given(ROWS, st.binary(max_size=60).filter(lambda raw: b"\n" not in raw))
def test_a_row_that_does_not_parse_adds_nothing(rows, odd):
    odd = b"x" + odd
    assert list(mount_table.mounts(table(rows) + odd + b"\n")) == list(mount_table.mounts(table(rows)))


@given(st.binary(min_size=1, max_size=30).filter(lambda raw: not {0} & set(raw)))
def test_escapes_are_undone(raw):
    escaped = raw.replace(b"\\", b"\\134").replace(b" ", b"\\040").replace(b"\t", b"\\011").replace(b"\n", b"\\012")
    assert mount_table.unescaped(escaped) == raw


def test_cgroups_are_told_by_exact_fields():
    rows = b"4:cpu,devices:/a:b\r0::/forged\n0::/c\x85d\nx:y:z\n12\n"
    assert list(mount_table.cgroups(rows)) == [
        (b"4", (b"cpu", b"devices"), b"/a:b\r0::/forged"),
        (b"0", (b"",), b"/c\x85d"),
    ]


def test_two_rows_of_one_id_are_the_hosts():
    rows = b"20 1 254:0 / / rw - x x rw\n35 20 0:9 / /r rw - x x rw\n37 35 0:4 / /r/w rw - x x rw\n"
    rows += b"36 20 0:7 / /v rw - x x rw\n36 35 0:8 / /r/v rw - x x rw\n"
    assert mount_table.own_mounts(rows, 35, lambda: b"") == {35, 37}
    assert mount_table.own_mounts(rows.replace(b"36 20 0:7 / /v", b"38 20 0:7 / /v"), 35, lambda: b"") == {35, 36, 37}


def test_a_number_that_no_kernel_writes_is_no_row():
    rows = b"9" * 5000 + b" 35 98:0 /mnt1 /mnt2 rw - ext3 /dev/root rw\n"
    assert list(mount_table.mounts(rows)) == []
    assert mount_table.own_mounts(rows, 35, lambda: rows) == {35}


HOST = b"20 1 254:0 / / rw - ext4 a rw\n21 20 0:9 / /sys/fs/fuse/connections rw - fusectl f rw\n"


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        (b"", False),
        (b"30 20 0:7 / /r rw - overlay o rw\n", False),
        (b"31 20 0:8 / /var/lib/lxcfs rw - fuse.lxcfs l rw\n30 20 0:7 / /r rw - overlay o rw\n", False),
        (b"30 20 0:7 / /r rw - overlay o rw\n31 30 0:8 / /r/v rw - fuse.sshfs l rw\n", True),
        (b"30 20 0:7 / /r rw - nfs4 server:/ rw\n", True),
        (b"30 20 0:7 / /rest rw - nfs4 server:/ rw\n32 20 0:8 / /r rw - overlay o rw\n", False),
    ],
)
def test_what_may_never_answer_before_the_runtime_has_pivoted(rows, answer):
    assert mount_table.may_never_answer(HOST + rows, b"/r") is answer


def test_what_may_never_answer_in_a_container_that_has_pivoted():
    rows = b"30 1 0:7 / / rw - overlay o rw\n31 30 0:8 / /v rw - fuse l rw\n"
    assert mount_table.may_never_answer(rows, b"/bundle/rootfs")
    assert not mount_table.may_never_answer(rows.replace(b"- fuse ", b"- ext4 "), b"/bundle/rootfs")
