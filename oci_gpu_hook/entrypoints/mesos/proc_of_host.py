"""Lets a process of a launch see the host's processes.

If there is a pid namespace, Mesos mounts the container's /proc over the host's. But leases and journals are read by
other processes, for which pids of the container mean nothing.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import mount_table, streams, syscalls
from oci_gpu_hook.base.errors import ApplyError, reason
from oci_gpu_hook.base.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


def enter() -> None:
    """Enter a copy of this mount namespace in which /proc is the host's; else it is like this one. Raises ApplyError.

    A helper that has not pivoted yet has the host's root directory.
    """
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        syscalls.mount_setattr(root, 0, syscalls.MS_PRIVATE, syscalls.AT_RECURSIVE)
        os.close(root)
        points = [point for _, _, _, _, point, _ in mount_table.mounts(read_file("/proc/self/mountinfo"))]
        for _ in range(points.count(b"/proc") - 1):
            syscalls.umount2(b"/proc", syscalls.MNT_DETACH)
    except OSError as error:
        remedy = "use Linux 5.12 or later, and let the agent run as root"
        raise ApplyError("cannot leave the container's mount namespace", reason(error), remedy, "OGH1502") from None


class Entered:
    """Such a copy for a `with` block. A process that cannot return from it ends, since it is to be the real helper."""

    def __enter__(self) -> Self:
        """Raise ApplyError where that is not possible."""
        self._namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._directory = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        enter()
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            syscalls.setns(self._namespace, syscalls.CLONE_NEWNS)
            os.fchdir(self._directory)
        except OSError as error:
            streams.say(f"oci-gpu-hook: error: cannot return to the container's mount namespace: {reason(error)}")
            os._exit(1)
        os.close(self._namespace)
        os.close(self._directory)
