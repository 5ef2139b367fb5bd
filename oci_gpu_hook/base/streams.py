"""The standard descriptors as engines leave them: closed, or open on something that cannot be written to."""

from __future__ import annotations

import os
import sys


def fill() -> None:
    """Open the standard descriptors that are closed: what is opened next would take their place, and be written to.

    The program that takes this process's place finds them closed again.
    """
    if sys.stdin and sys.stdout and sys.stderr:
        return
    while (fd := os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    os.close(fd)


def say(line: str) -> None:
    """Write a line to stderr, as far as that goes: nothing fails for want of somebody who listens."""
    rest = f"{line}\n".encode("utf-8", "backslashreplace")
    try:
        while rest:
            rest = rest[os.write(2, rest) :]
    except OSError:
        pass
