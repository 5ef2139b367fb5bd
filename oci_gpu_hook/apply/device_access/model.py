"""The values of device access: the cgroups that control a container's devices, a node, a change of one cgroup."""

from __future__ import annotations

import os

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol, Self

    class Change(Protocol):
        """One change of one cgroup."""

        def undo(self) -> None:
            """Undo the change."""

        def close(self) -> None:
            """Release what `undo` needs."""


class DeviceCgroup(Record):
    """The cgroups that control only this container's devices, held open.

    version: 1, 2, or 0 if no device controller is in force (note says why, levels is empty).
    path: of the process's cgroup, as /proc/PID/cgroup has it. own_path: of the topmost cgroup of the container.
    levels: directory descriptors from own_path down to path; usually one.
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
        """Close the descriptors; after that no grant that used them can be undone."""
        for directory in self.levels:
            os.close(directory)
