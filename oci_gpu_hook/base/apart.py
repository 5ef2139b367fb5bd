"""Runs work in a separate process and gives it up when it takes too long, since what it waits for may never answer.

A call into a file system whose server does not answer has no time limit, and may even keep its process from being
killed. So nothing waits for the process to end, and it holds nothing open that others wait for.
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

    from oci_gpu_hook.base.errors import ApplyError

_PIECE: Final = 1 << 16
_END: Final = 1.0  # seconds that a killed process may take to end


def answer(work: Callable[[], bytes], seconds: float, stop: int | None = None) -> bytes | None:
    """Return the work's result, b"" if it ends without one, None if it takes longer than `seconds`.

    Raises ApplyError where no process can be started, OSError.

    stop: a descriptor; when it can be read, the work has taken too long.

    The work runs in a copy of this process: its changes to memory, and its output to stdout and stderr, are lost.
    """
    reading, writing = os.pipe()
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise _no_process(error) from None
    if child == 0:
        _do(work, writing, seconds, parent)
    os.close(writing)
    try:
        data = _heard(reading, monotonic() + seconds, stop)
    finally:
        os.close(reading)
    if data is None:
        _kill(child)
        return None
    return data if os.waitpid(child, 0)[1] == 0 else b""


def _no_process(error: OSError) -> ApplyError:
    from oci_gpu_hook.base.errors import ApplyError, reason  # nobody else here needs it

    remedy = "let it have more processes (`pids.max` of its cgroup, TasksMax= of its unit, `ulimit -u`), or memory"
    return ApplyError("cannot start a process to work apart", reason(error), remedy, "OGH1515")


def _kill(child: int) -> None:
    """Kill a child, and wait for its end, unless it waits for what never answers."""
    from select import select

    os.kill(child, syscalls.SIGKILL)
    handle = os.pidfd_open(child)
    try:
        select([handle], [], [], _END)
    finally:
        os.close(handle)
    os.waitpid(child, os.WNOHANG)


def _do(work: Callable[[], bytes], writing: int, seconds: float, parent: int) -> None:
    status = 1
    try:
        become(seconds)
        if os.getppid() != parent:
            return  # it had ended before the kernel was told to kill this process with it
        view = memoryview(work())
        while view:
            view = view[os.write(writing, view) :]
        status = 0
    finally:
        os._exit(status)


def become(seconds: float, stderr: int | None = None) -> None:
    """Detach this child process: its output goes nowhere, and it ends with its parent or when its time is up.

    seconds: for how long the parent waits; the child gets one second more. stderr: a descriptor for its stderr.
    """
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for standard, fd in enumerate((null, null, null if stderr is None else stderr)):
        os.dup2(fd, standard)
    syscalls.die_with_parent()  # which an engine may kill
    signals.die_after(int(seconds) + 1)


def _heard(reading: int, give_up: float, stop: int | None) -> bytes | None:
    """Return what is read until the end of the stream; None if the end does not come in time, or before the stop."""
    from select import select  # only commands for people come here

    pieces: list[bytes] = []
    awaited = [reading] if stop is None else [reading, stop]
    while (left := give_up - monotonic()) > 0:
        if reading not in select(awaited, [], [], left)[0]:
            break
        piece = os.read(reading, _PIECE)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
    return None
