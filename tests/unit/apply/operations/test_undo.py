"""What is taken back of each kind of change, and what is not recognisably the hook's."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.apply.journal import changes
from oci_gpu_hook.apply.journal.changes import BLOCK, DIRECTORY, FIFO, FILE, LINK, NODE, change
from oci_gpu_hook.apply.operations import undo
from oci_gpu_hook.base import syscalls


@pytest.fixture
def parent(tmp_path):
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_every_kind_of_change_has_its_undo():
    kinds = {
        value for name, value in vars(changes).items() if name.isupper() and name[0] != "_" and name != "TYPE_CHECKING"
    }
    assert kinds == set(undo.UNDO)


@pytest.mark.parametrize("kind", [FILE, LINK, NODE, BLOCK, FIFO, DIRECTORY])
def test_nothing_there_is_no_error_and_what_made_way_comes_back(parent, tmp_path, kind):
    undo.take_back(change(kind, "/x", target="t", was="before"), "x", parent, syscalls.mount_id(parent))
    assert os.readlink(tmp_path / "x") == "before"


@pytest.mark.parametrize(
    ("made", "there"),
    [
        (change(FILE, "/x"), "grown"),
        (change(FILE, "/x"), "link"),
        (change(LINK, "/x", target="ours"), "link"),
        (change(LINK, "/x", target="ours"), "grown"),
        (change(LINK, "/x"), "link"),
        (change(NODE, "/x", device=os.makedev(1, 3)), "node"),
        (change(NODE, "/x", device=os.makedev(1, 3)), "grown"),
        (change(BLOCK, "/x", device=os.makedev(1, 5)), "node"),
        (change(NODE, "/x", device=os.makedev(7, 1)), "block"),
        (change(BLOCK, "/x", device=os.makedev(7, 2)), "block"),
        (change(FIFO, "/x"), "grown"),
        (change(DIRECTORY, "/x"), "full"),
        (change("of a later hook", "/x", was="y"), "grown"),
    ],
)
def test_what_is_not_the_hooks_stays(parent, tmp_path, made, there):
    if os.geteuid() != 0 and there in {"node", "block"}:
        pytest.skip("nodes need root")
    path = tmp_path / "x"
    {
        "grown": lambda: path.write_text("x"),
        "link": lambda: path.symlink_to("theirs"),
        "node": lambda: os.mknod(path, 0o20600, os.makedev(1, 5)),
        "block": lambda: os.mknod(path, 0o60600, os.makedev(7, 1)),
        "full": lambda: (path / "y").mkdir(parents=True),
    }[there]()
    before = path.lstat()
    try:
        undo.take_back(made, "x", parent, syscalls.mount_id(parent))
    except OSError:
        pass
    assert path.lstat().st_ino == before.st_ino


@pytest.mark.parametrize(
    ("of_type", "mode", "number"),
    [("c", 0o20600, os.makedev(1, 5)), ("b", 0o60600, os.makedev(7, 1)), ("p", 0o10600, 0)],
)
def test_a_node_of_each_type_is_taken_back(parent, tmp_path, of_type, mode, number):
    if os.geteuid() != 0 and of_type != "p":
        pytest.skip("nodes need root")
    os.mknod(tmp_path / "x", mode, number)
    undo.take_back(changes.node("/x", number, False, of_type), "x", parent, syscalls.mount_id(parent))
    assert not os.listdir(tmp_path)


def test_what_lies_below_another_mount_stays(parent, tmp_path):
    (tmp_path / "x").touch()
    undo.take_back(change(FILE, "/x"), "x", parent, syscalls.mount_id(parent) + 1)
    assert (tmp_path / "x").exists()
