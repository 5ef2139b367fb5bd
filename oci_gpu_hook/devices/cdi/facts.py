"""The facts that the compiled form of the specification files depends on, gathered by stat alone.

A file that is written in place has another time or size, one that is added, renamed or removed gives its directory
another time, and a file that is not believed may be believed once an owner or mode above it has changed. The form is
JSON's own, so that facts just gathered compare with facts that were stored.
"""

from __future__ import annotations

import os

from oci_gpu_hook import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Final

FORMAT: Final = 1
TICK: Final = 10_000_000  # nanoseconds between two times of a file system, CONFIG_HZ=100


def gather(directories: Sequence[str], files: Iterable[str], above: Iterable[str]) -> list[Any]:
    """Return the facts. files: specification files. above: directories that those, or what they lead to, lie in."""
    return [
        FORMAT,
        __version__,
        list(directories),
        [_identity(path) for path in directories],
        [_identity(path) for path in files],
        [_ownership(path) for path in above],
    ]


def above(paths: Iterable[str]) -> list[str]:
    """Return the directories that files lie in, and those above them, links followed."""
    found: dict[str, None] = {}
    for path in paths:
        for each in (os.path.abspath(path), os.path.realpath(path)):
            directory = os.path.dirname(each)
            while directory not in found:
                found[directory] = None
                directory = os.path.dirname(directory)
    return list(found)


def settled(gathered: Sequence[Any], began: int, ended: int) -> bool:
    """Tell whether nothing has changed so lately that it could change once more within the same time.

    began, ended: the nanoseconds between which the facts were gathered.
    """
    identities = [found for found in (*gathered[3], *gathered[4]) if found]
    return all(not began - TICK <= time <= ended for found in identities for time in found[-2:])


def _identity(path: str) -> list[int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    owned = [found.st_uid, found.st_mode, found.st_size]
    return [found.st_dev, found.st_ino, *owned, found.st_mtime_ns, found.st_ctime_ns]


def _ownership(path: str) -> list[int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_ino, found.st_uid, found.st_mode]
