"""Tells whether a start has left its process as it was. One that has not serves no other."""

from __future__ import annotations

import os
from time import sleep

from oci_gpu_hook.base import limits, log
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.entrypoints.resident.place import Look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Self

    from oci_gpu_hook.entrypoints.resident.place import Place

_STANDARD: Final = ("0", "1", "2")
_TRIES: Final = 20  # for the thread of apply.watch, which ends when it is told to
_PAUSE: Final = 0.0005


class Before(Record):
    """What a process was before its first start: place, open files, memory of its own."""

    place: Place
    descriptors: frozenset[tuple[str, str]]
    memory: int

    @classmethod
    def now(cls, place: Place) -> Self:
        """Return what this process is. place: where the manager was when it began."""
        return cls(place=place, descriptors=_descriptors(), memory=Look.at("self").memory)

    def is_now(self) -> bool:
        """Tell whether this process is so still, with one thread, no child, and nothing that a refusal leaves."""
        try:
            now = Look.at("self")
            return (
                _is_alone()
                and not log.has_refusal()
                and os.getcwd() == "/"
                and _descriptors() == self.descriptors
                and now.place == self.place
                and now.memory <= self.memory + limits.RESIDENT_MEMORY
            )
        except (OSError, ValueError):
            return False  # /proc is not where it was


def _descriptors() -> frozenset[tuple[str, str]]:
    """Return the numbers of open files above stderr, and what they lead to."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        if name in _STANDARD:
            continue
        try:
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            pass  # that of the listing
    return frozenset(found)


def _is_alone() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        pass
    else:
        return False
    for _ in range(_TRIES):
        if len(os.listdir("/proc/self/task")) == 1:
            return True
        sleep(_PAUSE)
    return False
