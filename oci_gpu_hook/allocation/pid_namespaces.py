"""Identifies processes in pid namespaces below the host's, where a process has a pid in each namespace above its own.

Mesos runs hooks in such a namespace, and so does an engine in a container.
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
    """Return the inode of the pid namespace of the pids in /proc, 0 if it cannot be known.

    It is the namespace of the nearest ancestor whose only pid is the one in /proc (proc(5), NSpid).
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
    """Tell whether /proc has a process that has the pid `number` in its own namespace `namespace`.

    is_meant: tells whether the process with a pid of /proc can be the one that is searched.
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
    except OSError:  # another user's process, under a rootless engine
        return 0
