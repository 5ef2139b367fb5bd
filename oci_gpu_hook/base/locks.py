"""Lock files: one process at a time holds a lock, and none waits for it without a limit."""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock  # noqa: TID251  this is the place
from time import monotonic, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

# NONBLOCK: if the name is a FIFO's, its other end may never be opened.
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Seconds between two attempts. When many starts wait, frequent attempts slow the holder down.
_SHORTEST_PAUSE: Final = 0.0005
_LONGEST_PAUSE: Final = 0.02


def acquire(path: str, patience: float, dir_fd: int | None = None) -> int | None:
    """Return a descriptor of the lock file, created if missing; it holds the lock until it is closed.

    None if other processes have held the lock for `patience` seconds. dir_fd: descriptor of the directory in which
    `path` begins. Raises OSError if the file cannot be opened or locked.
    """
    give_up = monotonic() + patience
    while True:
        # Only its owner may open it: any process that can open the file can lock it, and so block every container.
        fd = os.open(path, _OPEN, 0o600, dir_fd=dir_fd)
        try:
            if not attempt(_flock(fd), give_up - monotonic()):
                os.close(fd)
                return None
            if _is_at(path, fd, dir_fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def attempt(lock: Callable[[], object], patience: float) -> bool:
    """Call `lock` until it does not raise BlockingIOError; return False if it does so for `patience` seconds."""

    def is_had() -> bool:
        try:
            lock()
        except BlockingIOError:
            return False
        return True

    return wait_until(is_had, patience)


def wait_until(is_so: Callable[[], bool], patience: float) -> bool:
    """Call `is_so` until it returns True; return False if it does not for `patience` seconds."""
    give_up = monotonic() + patience
    pause = _SHORTEST_PAUSE
    while not is_so():
        if monotonic() >= give_up:
            return False
        sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    return True


def _flock(fd: int) -> Callable[[], object]:
    return lambda: flock(fd, LOCK_EX | LOCK_NB)


def _is_at(path: str, fd: int, dir_fd: int | None) -> bool:
    """Tell whether the name still leads to the locked file; something may have removed it from /run meanwhile."""
    try:
        there = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return there.st_ino == os.fstat(fd).st_ino
