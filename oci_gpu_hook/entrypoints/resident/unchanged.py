"""Tells whether a start has left its process as it was. One that has not serves no other."""

from __future__ import annotations

import os
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from time import sleep

from oci_gpu_hook.base import limits, log
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.entrypoints.resident.place import Look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Self

    from oci_gpu_hook.entrypoints.resident.place import Place

_STANDARD: Final = ("0", "1", "2")
_TRIES: Final = 20  # for a thread of apply.watch, which ends when it is told to
_PAUSE: Final = 0.0005


class Before(Record):
    """What a process was before its first start: place, open files, memory of its own, number of threads, signals.

    most_files: how many files it may have open, as setrlimit(2) takes that.
    """

    place: Place
    descriptors: frozenset[tuple[str, int, int]]
    memory: int
    threads: int
    signals: tuple[int, ...]
    most_files: tuple[int, int]

    @classmethod
    def now(cls, place: Place) -> Self:
        """Return what this process is. place: where the manager was when it began."""
        look = Look.at("self")
        return cls(
            place=place,
            descriptors=_descriptors(),
            memory=look.memory,
            threads=look.threads,
            signals=look.signals,
            most_files=getrlimit(RLIMIT_NOFILE),
        )

    def set_back(self) -> None:
        """Set back what every start changes in the process that does it, but for the umask, which the next one sets.

        Raises OSError.
        """
        os.chdir("/")
        setrlimit(RLIMIT_NOFILE, self.most_files)  # apply.transaction raises it

    def is_now(self) -> bool:
        """Tell whether this process is so still, without another thread, a child, or what a refusal leaves."""
        try:
            return (
                _has_no_child()
                and not log.has_refusal()
                and os.getcwd() == "/"
                and _descriptors() == self.descriptors
                and self._is(_look_with(self.threads))
            )
        except (OSError, ValueError):
            return False  # /proc is not where it was

    def _is(self, now: Look) -> bool:
        is_as_large = now.memory <= self.memory + limits.RESIDENT_MEMORY
        is_the_same = (now.threads, now.signals, now.place) == (self.threads, self.signals, self.place)
        return is_the_same and is_as_large


def _descriptors() -> frozenset[tuple[str, int, int]]:
    """Return the numbers of open files above stderr, each with the device and inode that it leads to."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        if name in _STANDARD:
            continue
        try:
            file = os.fstat(int(name))
        except OSError:
            continue  # that of the listing
        found.add((name, file.st_dev, file.st_ino))
    return frozenset(found)


def _has_no_child() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def _look_with(threads: int) -> Look:
    """Look at this process, and again for a while if it has more threads than that."""
    now = Look.at("self")
    for _ in range(_TRIES):
        if now.threads == threads:
            break
        sleep(_PAUSE)
        now = Look.at("self")
    return now
