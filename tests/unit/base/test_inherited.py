"""A process that closes what it has inherited keeps the file that its code is read from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import oci_gpu_hook
from oci_gpu_hook.base import inherited

STANDARD = (0, 1, 2)
PACKAGE = Path(oci_gpu_hook.__file__).parent


class Finder:
    """A stand-in for the finder of base.cpython.hotpath."""

    def __init__(self, file: int) -> None:
        self.file = file

    def find_spec(self, *_arguments: object) -> None:
        return None


def test_the_file_of_modules_and_what_is_named_stay_open(tmp_path, monkeypatch):
    """By the number of a closed one the next file opened, perhaps a container's, would be read as byte code."""
    (tmp_path / "modules").write_text("modules")
    file = os.open(tmp_path / "modules", os.O_RDONLY)
    reading, writing = os.pipe()
    other = os.dup(file)
    monkeypatch.setattr(sys, "meta_path", [Finder(file), *sys.meta_path])
    child = os.fork()
    if child == 0:
        try:
            inherited.close_all_but(*STANDARD, writing)
            opened = {int(name) for name in os.listdir("/proc/self/fd")}
            left = {fd for fd in opened if os.path.exists(f"/proc/self/fd/{fd}")}
            os.write(writing, b"as wanted" if left == {*STANDARD, file, writing} else str(left).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"as wanted"
    for fd in (file, reading, other):
        os.close(fd)


def test_nothing_else_closes_all_descriptors():
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if "closerange" in path.read_text()}
    assert found == {"base/inherited.py"}
