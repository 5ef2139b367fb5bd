"""Lock files: one process at a time, and none waits for ever."""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock  # noqa: TID251  this is the place
from time import monotonic, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

# NONBLOCK: where the name is a FIFO's, nobody may ever open its other end.
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Seconds between two looks. Where many starts wait, frequent looks keep the holder from its work.
_SHORTEST_PAUSE: Final = 0.0005
_LONGEST_PAUSE: Final = 0.02


def acquire(path: str, patience: float, dir_fd: int | None = None) -> int | None:
    """Return a descriptor of the lock file, made if missing, which holds the lock until it is closed.

    None where other processes have held it for `patience` seconds. dir_fd: descriptor of the directory in which `path`
    begins. Raises OSError where the file cannot be opened or locked.
    """
    give_up = monotonic() + patience
    while True:
        # Its owner alone may open it: a process that can open a file can lock it, and so hold up every container.
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
    """Call `lock` until it does not raise BlockingIOError; False where it does for `patience` seconds."""

    def is_had() -> bool:
        try:
            lock()
        except BlockingIOError:
            return False
        return True

    return wait_until(is_had, patience)


def wait_until(is_so: Callable[[], bool], patience: float) -> bool:
    """Ask until the answer is yes; False where it is no for `patience` seconds."""
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
    """Tell whether the locked file is still the one of that name; a cleaner of /run may have removed it."""
    try:
        there = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return there.st_ino == os.fstat(fd).st_ino
