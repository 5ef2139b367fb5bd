"""The values of device access: the cgroups that decide about a container's devices, a node, a change of one cgroup."""

from __future__ import annotations

import os

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol, Self

    Node = tuple[int, int]  # major, minor of a character device

    class Change(Protocol):
        """One change of one cgroup."""

        def undo(self) -> None:
            """Put back what was there."""

        def close(self) -> None:
            """Let go of what undo needs."""


class DeviceCgroup(Record):
    """The cgroups whose device access is the container's own, held open.

    version: 1, 2, or 0 where no device controller is in force (note says why, levels is empty).
    path: of the process's cgroup, as /proc/PID/cgroup has it. own_path: of the topmost cgroup of the container.
    levels: directory descriptors from own_path down to path; mostly they are one.
    """

    version: int
    path: str
    own_path: str = ""
    levels: tuple[int, ...] = ()
    note: str = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors; after that no grant made with them can be undone."""
        for directory in self.levels:
            os.close(directory)
