"""Which change of an installation a resident notices: every file that a start by Python would read."""

from __future__ import annotations

import os
import sys

import pytest

from oci_gpu_hook.entrypoints.resident.build import Build


class Finder:
    """A stand-in for the finder of base.cpython.hotpath, which has read the file of modules."""

    def __init__(self, file: int) -> None:
        self.file = file

    def find_spec(self, *_arguments: object) -> None:
        return None


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """An installation without a runtime; the path of the hook's stub."""
    for name in ("oci-gpu-hook.pyc", "oci-gpu-hook.modules"):
        (tmp_path / name).write_bytes(b"1")
    fd = os.open(tmp_path / "oci-gpu-hook.modules", os.O_RDONLY)
    monkeypatch.setattr(sys, "meta_path", [Finder(fd), *sys.meta_path])
    yield tmp_path / "oci-gpu-hook.pyc"
    os.close(fd)


@pytest.mark.parametrize("name", ["oci-gpu-hook.pyc", "oci-gpu-hook.modules", "oci-gpu-runtime.pyc"])
def test_what_is_replaced_removed_or_added_is_noticed(stub, name):
    path = stub.with_name("oci-gpu-runtime.pyc")
    path.write_bytes(b"1")
    build = Build.here(str(stub))
    assert build.stubs == {"hook": str(stub), "runtime": str(path)}
    assert build.is_current()
    changed = stub.with_name(name)
    kept = changed.read_bytes()
    changed.unlink()
    assert not build.is_current()
    changed.write_bytes(kept + b"2")
    assert not build.is_current()


def test_a_runtime_that_is_installed_later_is_noticed(stub):
    build = Build.here(str(stub))
    assert build.is_current()
    stub.with_name("oci-gpu-runtime.pyc").write_bytes(b"1")
    assert not build.is_current()


@pytest.mark.parametrize("name", ["oci-gpu-hook.pyc", "oci-gpu-hook.modules"])
def test_an_installation_that_is_not_whole_is_none(stub, name):
    stub.with_name(name).unlink()
    with pytest.raises((FileNotFoundError, ValueError)):
        Build.here(str(stub))
