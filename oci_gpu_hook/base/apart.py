"""Work in a process apart, which is given up on where it takes too long: what it waits for may never answer.

A call that has come to a file system whose server does not answer has no time limit, and may even keep its process from
being killed. So nobody waits for the process, and it holds nothing that others wait for.
"""

from __future__ import annotations

import os
from time import monotonic

from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.cpython import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

_SIGKILL: Final = 9
_PIECE: Final = 1 << 16
_STANDARD: Final = 3  # descriptors: stdin, stdout, stderr


def answer(work: Callable[[], bytes], seconds: float) -> bytes | None:
    """Return what the work gives, b"" where it ends without; None where it takes longer than that. Raises OSError.

    It is done in a copy of this process: what it changes in memory is lost, and what it writes to stdout or stderr.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _do(work, writing, seconds)
    os.close(writing)
    try:
        data = _heard(reading, monotonic() + seconds)
    finally:
        os.close(reading)
    if data is None:
        os.kill(child, _SIGKILL)
        os.waitpid(child, os.WNOHANG)
        return None
    return data if os.waitpid(child, 0)[1] == 0 else b""


def _do(work: Callable[[], bytes], writing: int, seconds: float) -> None:
    status = 1
    try:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for standard in range(_STANDARD):  # who reads what this process writes does not wait for the child as well
            os.dup2(null, standard)
        syscalls.die_with_parent()
        signals.die_after(int(seconds) + 1)
        view = memoryview(work())
        while view:
            view = view[os.write(writing, view) :]
        status = 0
    finally:
        os._exit(status)


def _heard(reading: int, give_up: float) -> bytes | None:
    """Return what comes until the end; None where that does not come in time."""
    from select import select  # for commands of people alone

    pieces: list[bytes] = []
    while (left := give_up - monotonic()) > 0:
        if not select([reading], [], [], left)[0]:
            break
        piece = os.read(reading, _PIECE)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
    return None
