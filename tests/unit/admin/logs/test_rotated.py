"""Rotated files are read as logrotate leaves them: oldest first, packed or not, each line once."""

from __future__ import annotations

import gzip
import os

import pytest

from oci_gpu_hook.admin.logs.file import LogFile
from oci_gpu_hook.base import limits


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hook.log"


def put(path, suffix: str, *lines: str) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    packed = suffix.endswith(".gz")
    path.with_name(path.name + suffix).write_bytes(gzip.compress(data) if packed else data)


def read(path) -> list[str]:
    log = LogFile(str(path))
    return [line.decode() for part in (log.earlier(), log.lines()) for line in part]


def test_numbers_count_backwards(path):
    put(path, ".10.gz", "one")
    put(path, ".2.gz", "two")
    put(path, ".1", "three", "four")
    put(path, "", "five")
    assert read(path) == ["one", "two", "three", "four", "five"]


def test_dates_count_forwards(path):
    put(path, "-20261120.gz", "one")
    put(path, "-20261127", "two")
    assert read(path) == ["one", "two"]


def test_a_file_that_is_being_packed_is_read_once(path):
    put(path, ".1", "one")
    path.with_name("hook.log.1.gz").write_bytes(gzip.compress(b"one\n")[:8])
    assert read(path) == ["one"]


def test_a_rotation_after_the_log_was_opened(path):
    put(path, "", "one")
    log = LogFile(str(path))
    earlier = log.earlier()
    assert next(earlier, None) is None
    path.rename(path.with_name("hook.log.1"))
    assert [*log.earlier()] == []
    assert [*log.lines()] == [b"one"]


@pytest.mark.parametrize("name", ["hook.log.old", "hook.log.1.bak", "hook.log1", "hook.logs.1", "my-hook.log.1"])
def test_other_files_are_not_of_the_log(path, name):
    path.with_name(name).write_text("x\n")
    put(path, "", "one")
    assert read(path) == ["one"]


def test_damage_links_pipes_and_endless_lines_end_nothing(path):
    path.with_name("hook.log.9.gz").write_bytes(b"not gzip\n")
    path.with_name("hook.log.8.gz").write_bytes(gzip.compress(b"cut\n" * 1000)[:-12])
    path.with_name("hook.log.7").symlink_to("/etc/passwd")
    os.mkfifo(path.with_name("hook.log.6"))
    path.with_name("hook.log.5").mkdir()
    put(path, ".4.gz", "x" * (3 * limits.LOG_LINE), "short")
    put(path, "", "one")
    assert [line for line in read(path) if line != "cut"] == ["short", "one"]
