"""Closes the descriptors that a process has inherited, so that nobody waits for it to close them."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_MOST_DESCRIPTORS: Final = 1 << 20  # fs.nr_open


def close_all_but(*kept: int) -> None:
    """Close all descriptors but those, and the file of modules.

    Modules and functions are read from that file when they are needed (base/cpython/hotpath.py). If it were closed,
    its number would be that of the next file opened, perhaps one of a container, and that would be read as byte code.
    """
    first = 0
    for fd in sorted({*kept, *(finder.file for finder in sys.meta_path if hasattr(finder, "file"))}):
        if first < fd:  # closerange(0, 0) closes all: its last descriptor would be -1 (CPython, _Py_closerange)
            os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, _MOST_DESCRIPTORS)
