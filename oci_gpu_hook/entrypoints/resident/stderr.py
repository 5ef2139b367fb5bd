"""Writes to a front's stderr, for which a worker does not wait as a hook may: an engine ends its hook, not a worker."""

from __future__ import annotations

import os
from select import POLLOUT, poll
from time import monotonic

from oci_gpu_hook.base import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

_STDERR: Final = 2
_PIECE: Final = 4096  # PIPE_BUF: what a pipe that is ready takes without waiting, pipe(7)
_PAUSE_MILLISECONDS: Final = 20


class Stderr:
    """What one start may write: so many bytes, and for so long as a reader keeps it waiting. What is over is dropped.

    The descriptor's flags stay as they are, because the engine has the same open file.
    """

    def __init__(self, has_ended: Callable[[], bool]) -> None:
        self._has_ended = has_ended
        self._bytes = limits.RESIDENT_STDERR
        self._seconds = limits.RESIDENT_STDERR_SECONDS

    def write(self, data: bytes) -> None:
        """Write, and ignore errors, as base.streams does."""
        data = data[: self._bytes]
        self._bytes -= len(data)
        try:
            while data and self._is_ready():
                data = data[os.write(_STDERR, data[:_PIECE]) :]
        except OSError:
            pass

    def _is_ready(self) -> bool:
        """Wait until something can be written; tell whether that is so before the time is up or the front has ended."""
        events = poll()
        events.register(_STDERR, POLLOUT)
        if events.poll(0):
            return True
        began = monotonic()
        is_ready = False
        while not is_ready and monotonic() - began < self._seconds and not self._has_ended():
            is_ready = bool(events.poll(_PAUSE_MILLISECONDS))
        self._seconds -= monotonic() - began
        return is_ready
