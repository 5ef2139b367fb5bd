"""Counts what happens on this host, for `oci-gpu metrics`: starts, their time, waits, refusals, repairs.

STATE/counts.json maps names to whole numbers, which only grow until the machine is started again. It is one small file
that never grows with what it counts. A count that cannot be kept is lost: nothing waits for it or fails by it.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits, state
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.locks import acquire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

FILE: Final = "counts.json"
STARTS: Final = "starts"  # followed by the smallest of BOUNDS that the time was within, "" if it was longer
START_TIME: Final = "start microseconds"
WAITS: Final = "waits"
WAIT_TIME: Final = "wait microseconds"
REFUSALS: Final = "refusals"  # followed by the code of the error
REPAIRS: Final = "repairs"  # followed by how they ended
BOUNDS: Final = ("0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10")  # seconds
_MICRO: Final = 1_000_000


def started(state_dir: str, seconds: float) -> None:
    """Count a start. seconds: that it took."""
    bound = next((bound for bound in BOUNDS if seconds <= float(bound)), "")
    add(state_dir, {f"{STARTS} {bound}": 1, START_TIME: int(seconds * _MICRO)})


def waited(state_dir: str, seconds: float) -> None:
    """Count a wait that ended with what was waited for."""
    add(state_dir, {WAITS: 1, WAIT_TIME: int(seconds * _MICRO)})


def add(state_dir: str, more: Mapping[str, int]) -> None:
    """Add to counts."""
    try:
        directory = state.existing(state_dir)
        fd = acquire(os.path.join(directory, FILE), limits.COUNTS_LOCK_SECONDS) if directory else None
        if fd is None:
            return
        try:
            found = _read(fd)
            for name, number in more.items():
                found[name] = found.get(name, 0) + number
            data = dump(found)
            if len(data) <= limits.COUNTS:
                os.pwrite(fd, data, 0)
                os.ftruncate(fd, len(data))
        finally:
            os.close(fd)
    except (OSError, HookError):
        return


def read(state_dir: str) -> dict[str, int]:
    """Return all counts; {} if nothing was counted, or if this user may not read them."""
    data = state.read(os.path.join(state_dir, FILE), limits.COUNTS)
    return _counts(data) if data else {}


def _read(fd: int) -> dict[str, int]:
    return _counts(os.pread(fd, limits.COUNTS, 0))


def _counts(data: bytes) -> dict[str, int]:
    """Return the counts in the file's contents; {} if these cannot be used, as of a file that has just been made."""
    try:
        found = parse(data, FILE)
    except HookError:
        return {}
    if type(found) is not dict:
        return {}
    return {name: number for name, number in found.items() if type(number) is int and number >= 0}
