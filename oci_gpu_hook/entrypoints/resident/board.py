"""Shows what each worker is doing, in memory that the workers share with the manager: to note it wakes nobody.

To be woken at the beginning and at the end of each start would cost the manager a twentieth of what the start costs. A
worker tells it only where there is something to do: too few wait, or one waits again after none did.
"""

from __future__ import annotations

from mmap import mmap

from oci_gpu_hook.base import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# The byte of a worker: 0 where there is none, even while it waits, odd while it has a front. Each change adds one, so
# that who looks now and then sees whether there was any. It does not overflow: a worker serves limits.RESIDENT_STARTS.
_WAITS: Final = 2
_KINDS: Final = b"-t" + 127 * b"wt"  # what each byte stands for: no worker, one that waits, one that has a front
_PLACES: Final = limits.RESIDENT_WORKERS
_LEAST: Final = _PLACES  # the byte with the number of waiting workers below which the manager is told
_IS_AWAITED: Final = _PLACES + 1  # whether it is told of one that waits again


class Board:
    """A place for each worker. A worker writes to its own alone, the manager to one that is nobody's."""

    def __init__(self) -> None:
        """Share memory with all processes that are forked from now on. Raises OSError."""
        self._memory = mmap(-1, _PLACES + 2)
        self._seen = bytearray(_PLACES)

    def waiting(self) -> int:
        """Return how many workers wait for a front."""
        return self._memory[:_PLACES].translate(_KINDS).count(b"w")

    def working(self) -> int:
        """Return how many have one."""
        return self._memory[:_PLACES].translate(_KINDS).count(b"t")

    # The manager's:

    def vacant(self) -> int:
        """Return a place that is nobody's."""
        return self._memory.find(b"\0", 0, _PLACES)

    def enter(self, place: int) -> None:
        """Note that a worker waits, which begins."""
        self._memory[place] = self._seen[place] = _WAITS

    def leave(self, place: int) -> bool:
        """Note that a worker has ended; tell whether it was waiting."""
        was_waiting = self._memory[place] % 2 == 0
        self._memory[place] = self._seen[place] = 0
        return was_waiting

    def has_changed(self) -> bool:
        """Tell whether a worker has taken a front, or has done with one, since this was called last."""
        now = self._memory[:_PLACES]
        changed = now != self._seen
        self._seen[:] = now
        return changed

    def is_waited(self, least: int) -> bool:
        """Tell whether a worker waits; have the manager told when fewer than `least` do, or else when one does."""
        self._memory[_LEAST] = least
        self._memory[_IS_AWAITED] = True  # before the look: one that waits again after it tells that
        if not self.waiting():
            return False
        self._memory[_IS_AWAITED] = False
        return True

    # A worker's:

    def take(self, place: int) -> bool:
        """Note that the worker has a front; return whether to tell the manager."""
        self._memory[place] += 1
        return self.waiting() < self._memory[_LEAST]

    def go_on(self, place: int) -> None:
        """Note that the worker has another front, and has not waited for that."""
        self._memory[place] += 2

    def release(self, place: int) -> bool:
        """Note that it waits again; return whether to tell the manager."""
        self._memory[place] += 1
        return bool(self._memory[_IS_AWAITED])
