"""Finds what `executables` has installed in a directory, for its removal."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Of an executable: itself, its stub, the stub's byte code, and the modules of a start.
_SUFFIXES: Final = ("", ".py", ".pyc", ".modules")
_NAMES: Final = ("oci-gpu-hook", "oci-gpu-runtime", "oci-gpu-slurm", "oci-gpu-resident")


def installed(directory: str) -> list[str]:
    """Return the paths of the installed files that are there."""
    paths = [os.path.join(directory, name + suffix) for name in _NAMES for suffix in _SUFFIXES]
    return [path for path in paths if os.path.lexists(path)]


def remove_directory(directory: str) -> None:
    """Remove the directory if nothing is in it."""
    try:
        os.rmdir(directory)
    except OSError:
        pass  # others have something in it, or it is not there
