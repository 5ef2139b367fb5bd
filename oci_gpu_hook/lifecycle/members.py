"""Tells which processes belong to a container.

A process belongs to it by its cgroup: the container's own, or one below, which no process leaves that has no access to
the host's cgroups. Namespaces prove nothing, because containers share them with others (`docker run --pid`,
`--volumes-from` does not, a pod does). Who has the container's namespace and is in no known cgroup is in doubt, and so
is everybody where the container has no separate cgroup.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import mount_table
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.processes import living_thread, parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Final

    from oci_gpu_hook.apply.device_access.model import DeviceCgroup

OUTSIDE: Final = "outside the container's cgroup"
NOT_ALONE: Final = "in a cgroup that is not the container's alone"
_CHILDLESS: Final = 2  # links of a directory of cgroupfs without directories in it


class Members:
    """The processes of a container.

    cgroups: its own. neighbours: returns the first processes of all containers on this host; it is called when a
    process is found that may be another's.
    """

    def __init__(self, pid: int, cgroups: DeviceCgroup, neighbours: Callable[[], Iterable[int]]) -> None:
        self.pid = pid
        self._version = cgroups.version
        self._own = os.fsencode(cgroups.own_path)
        self._levels = cgroups.levels
        self._neighbours = neighbours
        self._others: list[bytes] | None = None
        self._mounts, self._pids = _namespace(pid, "mnt"), _namespace(pid, "pid")
        self._hosts = {_namespace("self", "mnt"), _namespace("self", "pid"), ""}

    def doubt(self, pid: int, *, alone: bool, within: Collection[int] = ()) -> str | None:
        """Return "" for a process of the container, why that is in doubt, or None for one that is none of it.

        alone: what `is_alone` says, which many processes are asked with. within: processes that `within` has returned,
        among which are all of the container's that have joined the host's mount namespace.
        """
        shown = pid  # the thread whose namespaces and cgroup /proc shows
        mounts = _namespace(pid, "mnt")
        if not mounts:
            shown = living_thread(pid)
            mounts = _namespace(shown, "mnt")
        if mounts in self._hosts and (not shown or pid not in within):
            return None
        table = _table(shown)
        if self._own in table and _is_within(self._path_in(table), self._own):
            return "" if alone else NOT_ALONE
        if mounts == self._mounts:
            return OUTSIDE
        if self._pids in self._hosts or _namespace(shown, "pid") != self._pids:
            return None
        cgroup = self._path_in(table)
        return None if any(_is_within(cgroup, one) for one in self._known()) else OUTSIDE

    def within(self) -> frozenset[int]:
        """Return the processes in the container's own cgroup and those below, as far as they stay where they are."""
        found: list[bytes] = []
        waiting = ["."] if self._levels else []
        while waiting:
            path = waiting.pop()
            try:
                found += read_file(f"{path}/cgroup.procs", dir_fd=self._levels[0]).split()
            except OSError:
                continue
            waiting += _below(self._levels[0], path)
        return frozenset(map(int, found))

    def is_alone(self) -> bool:
        """Tell whether the cgroup has only this container in it, as far as the host's containers are known."""
        starters = [self._cgroup("self"), self._cgroup(parent(self.pid))]
        return not any(_is_within(cgroup, self._own) for cgroup in (*starters, *self._known()))

    def _known(self) -> list[bytes]:
        """Return the cgroups of the other containers."""
        if self._others is None:
            self._others = [self._cgroup(pid) for pid in self._neighbours() if pid != self.pid]
        return self._others

    def _cgroup(self, pid: int | str) -> bytes:
        """Return the cgroup of a process in the hierarchy that has the container's own; b"" if it has ended."""
        return self._path_in(_table(pid))

    def _path_in(self, table: bytes) -> bytes:
        """Return the cgroup that a /proc/PID/cgroup has for that hierarchy, b"" if none."""
        for hierarchy, controllers, path in mount_table.cgroups(table):
            if hierarchy == b"0" if self._version == 2 else b"devices" in controllers:
                return path
        return b""


def _table(pid: int | str) -> bytes:
    try:
        return read_file(f"/proc/{pid}/cgroup") if pid else b""
    except OSError:
        return b""


def _is_within(path: bytes, other: bytes) -> bool:
    """Tell whether a cgroup is another or below it; the root of a hierarchy, which all are in, does not count."""
    return other not in (b"", b"/") and (path == other or path.startswith(other + b"/"))


def _below(level: int, path: str) -> list[str]:
    """Return the paths of the cgroups right below one, from that of a descriptor."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=level)
    except OSError:
        return []
    try:
        if os.fstat(directory).st_nlink <= _CHILDLESS:
            return []
        return [f"{path}/{entry.name}" for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    finally:
        os.close(directory)


def _namespace(pid: int | str, kind: str) -> str:
    """Return what identifies a namespace of a process, "" if it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""
