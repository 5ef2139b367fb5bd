"""Copes with the standard descriptors as engines leave them: closed, or open on something that cannot be written to."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_before_leaving: Callable[[int], None] | None = None
_writes: Callable[[bytes], None] | None = None


def fill() -> None:
    """Open closed standard descriptors on /dev/null; otherwise the next opened file would get their numbers.

    They close on exec: a program that replaces this process finds them closed again.
    """
    if sys.stdin and sys.stdout and sys.stderr:
        return
    while (fd := os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    os.close(fd)


def output_is_gone() -> bool:
    """Tell whether stdout is a pipe that nobody reads any more, which who writes nothing to it does not notice."""
    import select

    poll = select.poll()
    poll.register(1, 0)  # errors are reported always
    return any(event & select.POLLERR for _, event in poll.poll(0))


def say(line: str) -> None:
    """Write a line to stderr. A stderr that nobody reads is no error."""
    write(f"{line}\n".encode("utf-8", "backslashreplace"))


def write(data: bytes) -> None:
    """Write to stderr, and ignore its errors."""
    if _writes:
        _writes(data)
        return
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        pass


def write_by(writes: Callable[[bytes], None]) -> None:
    """Have `writes` write to stderr, in a process whose stderr is another's."""
    global _writes
    _writes = writes


def before_leaving(tell: Callable[[int], None]) -> None:
    """Have `tell` called with the exit status before this process ends by `leave`."""
    global _before_leaving
    _before_leaving = tell


def leave(status: int) -> NoReturn:
    """End this process at once, with an exit status that whoever serves as the hook for another process tells that."""
    try:
        if _before_leaving:
            _before_leaving(status)
    finally:
        os._exit(status)
