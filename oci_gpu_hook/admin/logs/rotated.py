"""The files that a log was rotated to, as logrotate(8) names them: `FILE.1`, `FILE.2.gz`, `FILE-20261128.gz`."""

from __future__ import annotations

import gzip
import os
import re  # noqa: TID253
import stat
import zlib

from oci_gpu_hook.base import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Final

_SUFFIX: Final = re.compile(r"(?:\.(?P<number>[0-9]{1,6})|-(?P<date>[0-9]{8}(?:-?[0-9]{2,10})?))(?P<packed>\.gz)?")
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def lines(path: str, current: os.stat_result | None) -> Iterator[bytes]:
    """Yield the lines of all rotated files, oldest first. A file that cannot be read, or is damaged, is passed over.

    path: of the log. current: the file that is read as the log itself, which may have been rotated since.
    """
    for name in _oldest_first(path):
        yield from _of_file(name, current)


def _oldest_first(path: str) -> list[str]:
    directory, name = os.path.split(path)
    try:
        entries = os.listdir(directory or ".")
    except OSError:
        return []
    found = {}
    for entry in entries:
        parts = _SUFFIX.fullmatch(entry.removeprefix(name)) if entry.startswith(name) else None
        # While logrotate compresses a file, both are there, and the compressed one is not whole yet.
        if parts and not (parts["packed"] and entry.removesuffix(".gz") in entries):
            age = (1, -int(parts["number"]), "") if parts["number"] else (0, 0, parts["date"])
            found[os.path.join(directory, entry)] = age
    return sorted(found, key=lambda file: found[file])


def _of_file(path: str, current: os.stat_result | None) -> Iterator[bytes]:
    try:
        fd = os.open(path, _OPEN)
    except OSError:
        return
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or (current and os.path.samestat(status, current)):
        os.close(fd)
        return
    with open(fd, "rb") as file:
        try:
            if path.endswith(".gz"):
                with gzip.open(file) as unpacked:
                    yield from _whole_lines(unpacked)
            else:
                yield from _whole_lines(file)
        except (OSError, EOFError, zlib.error):
            return


def _whole_lines(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """Yield the lines that are not over the limit."""
    goes_on = False
    while line := file.readline(limits.LOG_LINE + 1):
        ends = line.endswith(b"\n")
        if ends and not goes_on:
            yield line[:-1]
        goes_on = not ends
