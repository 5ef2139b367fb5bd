"""Processes in a pid namespace other than the host's, where a process has a number in each namespace above its own.

Mesos runs hooks in such a one, and whoever runs an engine in a container.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.processes import innermost_number, status_field

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
        if len(status_field(pid, b"NSpid").split()) == 1:
            return _inode(pid)
        pid = status_field(pid, b"PPid").decode("ascii")
        if pid == "0":
            break
    return _inode("1")


def has(namespace: int, number: int, is_meant: Callable[[int], bool]) -> bool:
    """Tell whether /proc knows a process whose own namespace is `namespace` and knows it as `number`.

    is_meant: whether the process that /proc gives the number can be the one at all.
    """
    return any(
        is_meant(int(pid)) and _inode(pid) == namespace and _is_known_as(pid, number)
        for pid in os.listdir("/proc")
        if pid.isdecimal()
    )


def _is_known_as(pid: str, number: int) -> bool:
    try:
        return innermost_number(pid) == number
    except OSError:
        return False


def _inode(pid: str) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:  # another user's process, seen by a rootless engine
        return 0
