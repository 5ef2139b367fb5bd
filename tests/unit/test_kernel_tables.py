"""Kernel tables with any bytes in their names: rows end at newlines alone, and what does not parse is the host's."""

from __future__ import annotations

import ast
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import oci_gpu_hook
from oci_gpu_hook.base import mount_table

PACKAGE = Path(oci_gpu_hook.__file__).parent
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


# Text of this project's own programs or of the host's administrator, whose lines nobody else writes.
MAY_SPLIT = {
    "admin": "output of compilers, ldd and the doctor's trial container; text of configuration files in a diff",
    "base/config/toml.py": "the operator's config.toml, to say on which line a key stands",
    "devices/nvidia/procfs.py": "the NVIDIA driver's own texts; the names in them are the driver's",
    "apply/device_access/bpf.py": "the kernel verifier's log of a program of this project's",
    "apply/systemd/unit_settings.py": "unit files, which systemd reads by lines",
}


def test_splitlines_is_kept_from_kernel_tables():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        name = str(path.relative_to(PACKAGE))
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute))
        if any(node.attr == "splitlines" for node in calls):
            found.add(name)
    left = {name for name in found if name not in MAY_SPLIT and name.split("/")[0] not in MAY_SPLIT}
    assert left == set(), "split kernel tables with base.mount_table"
