"""Finds what `executables` has installed in a directory, for its removal."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Of an executable: itself, its stub, the stub's byte code, and the modules of a start.
_SUFFIXES: Final = ("", ".py", ".pyc", ".modules")
_NAMES: Final = ("oci-gpu-hook", "oci-gpu-runtime", "oci-gpu-slurm", "oci-gpu-resident")
_COMMANDS: Final = (
    "oci-gpu.",
    ".modules",
)  # the beginning and the end of the modules of `oci-gpu`, a file a version of Python


def installed(directory: str) -> list[str]:
    """Return the paths of the installed files that are there."""
    paths = [os.path.join(directory, name + suffix) for name in _NAMES for suffix in _SUFFIXES]
    begin, end = _COMMANDS
    try:
        names = sorted(name for name in os.listdir(directory) if name.startswith(begin) and name.endswith(end))
    except OSError:
        names = []
    return [path for path in (*paths, *(os.path.join(directory, name) for name in names)) if os.path.lexists(path)]


def remove_directory(directory: str) -> None:
    """Remove the directory if nothing is in it."""
    try:
        os.rmdir(directory)
    except OSError:
        pass  # others have something in it, or it is not there
