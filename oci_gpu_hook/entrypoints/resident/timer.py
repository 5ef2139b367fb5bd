"""A worker's thread that ends it where a container's files keep it waiting; `apply.watch` has one for each start.

To make a thread and to end it costs a twentieth of a start, so a worker makes one before its first.
"""

from __future__ import annotations

import os
from time import monotonic, sleep

from oci_gpu_hook.apply import watch
from oci_gpu_hook.base import limits, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


class Timer:
    """The thread. It need not be told when a start begins: it never sleeps for longer than one may take."""

    def __init__(self) -> None:
        """Start it. Raises OSError, RuntimeError if that is refused."""
        import _thread

        self._pid = os.getpid()
        self._timed: tuple[float, Callable[[], NoReturn]] | None = None  # until when, and what is called then
        watch.make_room()
        syscalls.unshare(syscalls.CLONE_FS)  # if this is refused, there must be no thread
        _thread.start_new_thread(self._look_on, ())
        # A thread can enter a mount namespace only if it shares its root and working directory with no other.
        syscalls.unshare(syscalls.CLONE_FS)

    def begin(self, give_up: Callable[[], NoReturn]) -> bool:
        """Have `give_up` called unless `end` is within the limit. Return False in a child process, which has no thread.

        It ends this process.
        """
        if os.getpid() != self._pid:
            return False
        self._timed = (monotonic() + limits.CONTAINER_FILES_SECONDS, give_up)
        return True

    def end(self) -> None:
        """Time nothing any more."""
        self._timed = None

    def _look_on(self) -> None:
        while True:
            left = limits.CONTAINER_FILES_SECONDS
            if timed := self._timed:
                until, give_up = timed
                left = until - monotonic()
                if left <= 0:
                    give_up()
            sleep(left)


def start() -> None:
    """Start the thread, and have `apply.watch` use it; without one, that starts its own."""
    try:
        watch.time_by(Timer())
    except (OSError, RuntimeError):
        pass
