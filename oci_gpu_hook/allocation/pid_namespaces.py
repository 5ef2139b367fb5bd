"""Processes in a pid namespace other than the host's, where a process has a number in each namespace above its own.

Mesos runs hooks in such a one, and whoever runs an engine in a container.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

_MOST_ANCESTORS: Final = 64


def of_proc() -> int:
    """Return the inode of the pid namespace that /proc numbers processes in, 0 where that cannot be known.

    It is that of the nearest ancestor with no other number than the one that /proc gives it (proc(5), NSpid).
    """
    pid = "self"
    for _ in range(_MOST_ANCESTORS):
        status = _status(pid)
        if len(_field(status, b"NSpid").split()) == 1:
            return _inode(pid)
        pid = _field(status, b"PPid").decode("ascii")
        if pid == "0":
            break
    return _inode("1")


def has(namespace: int, number: int, is_meant: Callable[[int], bool]) -> bool:
    """Tell whether /proc knows a process whose own namespace is `namespace` and knows it as `number`.

    is_meant: whether the process that /proc gives the number can be the one at all.
    """
    return any(
        is_meant(int(pid)) and _inode(pid) == namespace and _innermost_number(pid) == number
        for pid in os.listdir("/proc")
        if pid.isdecimal()
    )


def _innermost_number(pid: str) -> int:
    try:
        numbers = _field(_status(pid), b"NSpid").split()
    except OSError:
        return 0
    return int(numbers[-1]) if numbers else 0


def _field(status: bytes, name: bytes) -> bytes:
    return status.partition(b"\n" + name + b":")[2].partition(b"\n")[0].strip()


def _status(pid: str) -> bytes:
    fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 16384)
    finally:
        os.close(fd)


def _inode(pid: str) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:  # another user's process, seen by a rootless engine
        return 0
