"""Reads the CSV files in which a Tegra says what its containers get: lines `dev, PATH`, `lib, …`, `dir, …`, `sym, …`.

Source: nvidia-container-toolkit, internal/platform-support/tegra/csv: blanks around words, a line that is none of these
is passed over. What they name reaches containers, device nodes too: files that users other than root can have written
are not used, and all have limits like all input.
"""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.base import limits, trust
from oci_gpu_hook.base.errors import DriverError, quoted, reason
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot

DIRECTORY: Final = "/etc/nvidia-container-runtime/host-files-for-container.d"
# What containers get that do not ask for the entries of all files (internal/platform-support/tegra/csv/csv.go).
BASE: Final = ("devices.csv", "drivers.csv", "l4t.csv")
KINDS: Final = ("dev", "dir", "lib", "sym")
_NOT_TO_BE_HAD: Final = ("", "/", "/dev", "/proc", "/sys")  # which every container has itself
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
ABOUT: Final = "the CSV files of this Tegra"
_TOLD: Final = 8  # lines that are none
_PLACE: Final = {"dev": "/dev/"}  # where relative paths begin, otherwise at the root


class Entry(Record):
    """A line. place: file and number of the line, for messages. base: whether every container gets it."""

    kind: str
    path: str
    place: str
    base: bool


def read(root: DriverRoot) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Return the entries of all files, and what is wrong with files and lines, in sentences that begin with `ABOUT`.

    Raises DriverError for a file over the limits, and where users other than root can put files.
    """
    found: dict[tuple[str, str], Entry] = {}
    left, lines = limits.CSV_BYTES, 0
    wrong: list[str] = []
    _check_directory(root)
    names = [name for name in root.names(DIRECTORY) if name.lower().endswith(".csv") and name.lower() != ".csv"]
    if len(names) > limits.CSV_FILES:
        raise over(DIRECTORY, f"has more than {limits.CSV_FILES} files")
    for name in sorted(names, key=lambda name: (name not in BASE, name)):
        try:
            data = _read(root, name, left + 1)
        except OSError as error:
            wrong.append(f"{quoted(name)} is not used: {reason(error)}")
            continue
        left -= len(data)
        lines += data.count(b"\n")
        if left < 0 or lines > limits.CSV_LINES:
            why = f"and those before it have more than {limits.CSV_BYTES} bytes or {limits.CSV_LINES} lines"
            raise over(f"{DIRECTORY}/{name}", why)
        for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
            if not line.strip():
                continue
            place = f"{name}:{number}"
            kind, _, path = (word.strip() for word in line.partition(","))
            path = path if path.startswith("/") else _PLACE.get(kind, "/") + path
            path = "/" + os.path.normpath(path).lstrip("/") if path.rstrip("/") else ""
            if kind not in KINDS or path in _NOT_TO_BE_HAD or "\0" in path:
                wrong.append(f"{quoted(place)} is not a line `dev|dir|lib|sym, PATH`: {quoted(line.strip())}")
                continue
            found.setdefault((kind, path), Entry(kind=kind, path=path, place=place, base=name in BASE))
    more = [f"{len(wrong) - _TOLD} more lines are not either"] if len(wrong) > _TOLD else []
    return tuple(found.values()), tuple(f"{ABOUT}: {text}" for text in (*wrong[:_TOLD], *more))


def _check_directory(root: DriverRoot) -> None:
    try:
        found = os.stat(root.host_path(root.resolve(DIRECTORY) or DIRECTORY))
    except OSError:
        return
    if not trust.is_trusted(found):
        why = f"{_by_others(found)} could put files there, which say what reaches containers"
        where = quoted(root.host_path(DIRECTORY))
        remedy = "chown it to root and remove the write permission of others"
        raise DriverError(f"{ABOUT}: {where}", why, remedy, "OGH1410")


def _by_others(found: os.stat_result) -> str:
    return f"users other than root (owner {found.st_uid}, mode {found.st_mode & 0o777:o})"


def _read(root: DriverRoot, name: str, limit: int) -> bytes:
    """Return the first `limit` bytes of a file. Raises OSError, for one that others can have written, too."""
    fd = os.open(root.host_path(root.resolve(f"{DIRECTORY}/{name}") or f"{DIRECTORY}/{name}"), _OPEN)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if not trust.is_trusted(found):
            raise OSError(errno.EPERM, f"{_by_others(found)} could have written it")
        return os.read(fd, limit)
    finally:
        os.close(fd)


def over(path: str, why: str) -> DriverError:
    """Return the error for a file, or a path in one, that is over a limit."""
    return DriverError(f"{ABOUT}: {quoted(path)}", why, "remove what is not for containers", "OGH1003")
