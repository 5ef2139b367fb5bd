"""Reads the CSV files in which a Tegra says what its containers get: lines `dev, PATH`, `lib, …`, `dir, …`, `sym, …`.

Source: nvidia-container-toolkit, internal/platform-support/tegra/csv: blanks around words, a line that is none of these
is passed over. The files belong to root, and have limits like all input.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import DriverError, quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot

DIRECTORY: Final = "/etc/nvidia-container-runtime/host-files-for-container.d"
# What containers get that do not ask for the entries of all files (internal/platform-support/tegra/csv/csv.go).
BASE: Final = ("devices.csv", "drivers.csv", "l4t.csv")
KINDS: Final = ("dev", "dir", "lib", "sym")
_NOT_TO_BE_HAD: Final = ("", "/", "/dev", "/proc", "/sys")  # which every container has of its own
_TOLD: Final = 8  # lines that are none
_PLACE: Final = {"dev": "/dev/"}  # where relative paths begin, otherwise at the root


class Entry(Record):
    """A line. place: file and number of the line, for messages. base: whether every container gets it."""

    kind: str
    path: str
    place: str
    base: bool


def read(root: DriverRoot) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Return the entries of all files, and what is wrong with lines. Raises DriverError for a file over the limits."""
    found: dict[tuple[str, str], Entry] = {}
    left, lines = limits.CSV_BYTES, 0
    wrong: list[str] = []
    names = [name for name in root.names(DIRECTORY) if name.lower().endswith(".csv") and name.lower() != ".csv"]
    if len(names) > limits.CSV_FILES:
        raise _over(DIRECTORY, f"has more than {limits.CSV_FILES} files")
    for name in sorted(names, key=lambda name: (name not in BASE, name)):
        data = root.read(f"{DIRECTORY}/{name}", left + 1)
        if data is None:
            wrong.append(f"{quoted(name)} cannot be read")
            continue
        left -= len(data)
        lines += data.count(b"\n")
        if left < 0 or lines > limits.CSV_LINES:
            why = f"and those before it have more than {limits.CSV_BYTES} bytes or {limits.CSV_LINES} lines"
            raise _over(f"{DIRECTORY}/{name}", why)
        for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
            if not line.strip():
                continue
            place = f"{name}:{number}"
            kind, _, path = (word.strip() for word in line.partition(","))
            path = path if path.startswith("/") else _PLACE.get(kind, "/") + path
            path = "/" + os.path.normpath(path).lstrip("/") if path.rstrip("/") else ""
            if kind not in KINDS or path in _NOT_TO_BE_HAD or "\0" in path:
                wrong.append(f"{quoted(place)} is no line `dev|dir|lib|sym, PATH`: {quoted(line.strip())}")
                continue
            found.setdefault((kind, path), Entry(kind=kind, path=path, place=place, base=name in BASE))
    more = [f"{len(wrong) - _TOLD} more lines of the CSV files are none"] if len(wrong) > _TOLD else []
    return tuple(found.values()), (*wrong[:_TOLD], *more)


def _over(path: str, why: str) -> DriverError:
    return DriverError(
        f"the CSV files of this Tegra: {quoted(path)}", why, "remove what is not for containers", "OGH1003"
    )
