"""A rootfs can lead its paths astray inside itself, never outside; and what was made in it can be taken back."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from oci_gpu_hook.apply.cleanup import take_back
from oci_gpu_hook.apply.journal.changes import DIRECTORY, FILE, LINK, change
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.base.errors import UnsafeRootfs


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("of the host")
    root = tmp_path / "rootfs"
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/file").write_text("inside")
    return root


@pytest.fixture
def rootfs(tree):
    with Rootfs(os.open(tree, os.O_PATH | os.O_DIRECTORY)) as opened:
        yield opened


def make_directory(rootfs, path):
    with Directories(rootfs) as directories:
        directories.make(path)


def snapshot(directory):
    found = {}
    for where, directories, names in os.walk(directory):
        for name in directories + names:
            path = os.path.join(where, name)
            status = os.lstat(path)
            found[os.path.relpath(path, directory)] = (stat.S_IFMT(status.st_mode), status.st_size, status.st_mtime_ns)
    return found


LINKS_OUT = {
    "absolute": "/outside",
    "relative": "../outside",
    "deep": "../../../../../../../../outside",
    "host_absolute": "{outside}",
    "magic": "/proc/self/root/{outside}",
    "chain": "second",
}


@pytest.mark.parametrize("target", LINKS_OUT.values(), ids=LINKS_OUT.keys())
def test_links_lead_to_nothing_outside(tree, rootfs, target):
    outside = tree.parent / "outside"
    (tree / "trap").symlink_to(target.format(outside=outside))
    (tree / "second").symlink_to("../outside")
    before = snapshot(outside)
    assert rootfs.read("/trap/secret", 100) == b""
    with pytest.raises(UnsafeRootfs):
        make_directory(rootfs, "/trap/made")
    assert snapshot(outside) == before


def test_absolute_links_are_the_containers(tree, rootfs):
    (tree / "lib").symlink_to("/usr/lib")
    assert rootfs.read("/lib/file", 100) == b"inside"
    make_directory(rootfs, "/lib/new/deeper")
    assert (tree / "usr/lib/new/deeper").is_dir()


def test_dotdot_stays_at_the_root(tree, rootfs):
    assert rootfs.read("/../../usr/lib/file", 100) == b"inside"
    assert rootfs.read("/../outside/secret", 100) == b""


def test_loops_are_refused(tree, rootfs):
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("a")
    with pytest.raises(UnsafeRootfs, match="loop of links"):
        rootfs.directory("/a/x")


def test_files_where_directories_belong_are_refused(tree, rootfs):
    with pytest.raises(UnsafeRootfs, match="not a directory"):
        make_directory(rootfs, "/usr/lib/file/x")


@pytest.mark.parametrize("kind", ["fifo", "socket", "directory", "large"])
def test_only_regular_files_of_sensible_size_are_read(tree, rootfs, kind, monkeypatch):
    path = tree / "odd"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(tree)
        socket.socket(socket.AF_UNIX).bind("odd")
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"x" * 101)
    assert rootfs.read("/odd", 100) == b""


def test_a_file_is_made_with_its_exact_mode(tree, rootfs):
    old = os.umask(0)
    try:
        with Directories(rootfs) as directories:
            os.close(directories.make("/usr/lib").make_file("made", b"contents"))
    finally:
        os.umask(old)
    assert (tree / "usr/lib/made").read_bytes() == b"contents"
    assert stat.S_IMODE((tree / "usr/lib/made").stat().st_mode) == 0o644


def test_taking_back_leaves_the_tree_as_it_was(tree, rootfs):
    (tree / "usr/lib/old").symlink_to("was-here")
    before = {path: facts[:2] for path, facts in snapshot(tree).items()}
    with Directories(rootfs) as directories:
        parent = directories.make("/opt/driver")
        os.close(parent.make_file("file"))
        parent.make_link("link", "file")
    os.unlink(tree / "usr/lib/old")
    (tree / "usr/lib/old").symlink_to("ours")
    take_back(
        rootfs,
        [
            change(DIRECTORY, "/opt"),
            change(DIRECTORY, "/opt/driver"),
            change(FILE, "/opt/driver/file"),
            change(LINK, "/opt/driver/link", target="file"),
            change(LINK, "/usr/lib/old", target="ours", was="was-here"),
        ],
    )
    assert {path: facts[:2] for path, facts in snapshot(tree).items()} == before
    assert os.readlink(tree / "usr/lib/old") == "was-here"


def test_taking_back_keeps_what_the_container_made(tree, rootfs):
    (tree / "usr/lib/grown").write_text("not empty any more")
    (tree / "usr/lib/link").symlink_to("elsewhere")
    take_back(
        rootfs,
        [
            change(FILE, "/usr/lib/grown"),
            change(LINK, "/usr/lib/link", target="ours"),
            change(DIRECTORY, "/usr/lib"),
            change(FILE, "/no/such/directory/file"),
        ],
    )
    assert (tree / "usr/lib/grown").exists()
    assert os.readlink(tree / "usr/lib/link") == "elsewhere"


def test_taking_back_does_not_follow_links_out(tree, rootfs):
    empty = tree.parent / "outside" / "empty"
    empty.touch()
    (tree / "trap").symlink_to("../outside")
    take_back(rootfs, [change(FILE, "/trap/empty"), change(DIRECTORY, "/trap")])
    assert empty.exists()
