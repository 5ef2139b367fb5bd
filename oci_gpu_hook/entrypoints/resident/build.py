"""Tells whether what this process has imported is still what a start by Python would import."""

from __future__ import annotations

import errno
import os
import sys

import oci_gpu_hook
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    Identity = tuple[int, int, int, int] | None  # None: there is no such file


class Build(Record):
    """The files that a hook's front and its Python consist of, with their identities when this process began.

    stubs: what the fronts start, by role; a front of another installation names another.
    """

    stubs: dict[str, str]
    files: tuple[tuple[str, Identity], ...]

    @classmethod
    def here(cls, stub: str) -> Self:
        """Return the build that this process is of.

        Raises OSError if a file of it is not there, ValueError if this process has not read the file of modules.
        """
        modules = stub.removesuffix(".pyc") + ".modules"
        paths: tuple[str, ...] = (stub, modules, os.path.realpath(sys.executable), str(oci_gpu_hook.__file__))
        read = [os.fstat(finder.file) for finder in sys.meta_path if hasattr(finder, "file")]
        identity = _identity(modules)
        if [(found.st_dev, found.st_ino) for found in read] != [identity and identity[:2]]:
            raise ValueError(f"{modules} is not what was imported; run `oci-gpu hook-path`")
        runtime = os.path.join(os.path.dirname(stub), "oci-gpu-runtime.pyc")  # not there where no runtime was found
        files = [(path, _identity(path)) for path in (*paths, runtime)]
        for path, identity in files[:-1]:
            if identity is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return cls(stubs={"hook": stub, "runtime": runtime}, files=tuple(files))

    def is_current(self) -> bool:
        """Tell whether no file was replaced, removed or added since, as by an upgrade of the package or of Python."""
        try:
            return all(_identity(path) == identity for path, identity in self.files)
        except OSError:
            return False


def _identity(path: str) -> Identity:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
