"""The log file is read to its end, and on after each way of rotating it; nothing is lost, and nothing comes twice."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.admin.logs.file import LogFile
from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import HookError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hook.log"


def append(path, *lines: str) -> None:
    """Write as the hook does: the file is opened for each line."""
    for line in lines:
        with path.open("a") as file:
            file.write(f"{line}\n")


def read(log: LogFile) -> list[str]:
    return [line.decode() for line in log.lines()]


def test_what_is_there_and_then_what_comes(path):
    log = LogFile(str(path))
    assert read(log) == []
    append(path, "one", "two")
    assert read(log) == ["one", "two"]
    assert read(log) == []
    append(path, "three")
    assert read(log) == ["three"]


def test_a_line_that_is_half_written_waits_for_its_end(path):
    log = LogFile(str(path))
    path.write_text("one\ntw")
    assert read(log) == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    assert read(log) == ["two"]


def test_renamed_and_made_again(path):
    log = LogFile(str(path))
    append(path, "one")
    assert read(log) == ["one"]
    append(path, "two")
    path.rename(path.with_suffix(".1"))
    append(path, "three")
    assert read(log) == ["two", "three"]


def test_renamed_and_not_made_again_yet(path):
    log = LogFile(str(path))
    append(path, "one")
    path.rename(path.with_suffix(".1"))
    assert read(log) == []
    append(path, "two")
    assert read(log) == ["two"]


def test_renamed_while_it_is_read(path):
    log = LogFile(str(path))
    append(path, "one")
    assert read(log) == ["one"]
    append(path, "two")
    path.rename(path.with_suffix(".1"))
    assert read(log) == ["two"]
    append(path.with_suffix(".1"), "by a hook that had it open")
    append(path, "three")
    assert read(log) == ["by a hook that had it open", "three"]


def test_copied_and_cut(path):
    log = LogFile(str(path))
    append(path, "one", "two")
    assert read(log) == ["one", "two"]
    os.truncate(path, 0)
    append(path, "3")
    assert read(log) == ["3"]


def test_a_line_over_the_limit_is_passed_over(path):
    log = LogFile(str(path))
    append(path, "one", "x" * (limits.LOG_LINE + (200 << 10)), "two")
    assert read(log) == ["one", "two"]


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
def test_what_is_no_file_is_refused_and_holds_nobody_up(path, kind):
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    else:
        path.mkdir()
    with pytest.raises(HookError, match="log "):
        read(LogFile(str(path)))
