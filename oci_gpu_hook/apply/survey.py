"""What will have to be made in a rootfs, seen before anything is: the journal's entry of a container.

It may name more than is made in the end, when something else makes it meanwhile; taking back looks again.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply import syscalls
from oci_gpu_hook.apply.changes import DIRECTORY, FILE, LINK, NODE, Change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.apply.rootfs import Rootfs
    from oci_gpu_hook.plan import Plan


class Survey:
    """Changes that a plan will make to a rootfs, in order. Raises UnsafeRootfs for directories that are none."""

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs = rootfs
        self._directories: dict[str, int | None] = {}  # None: will be made
        self._passing: dict[str, bool] = {}  # whether what is made in the directory is made in a mount of the container
        self.changes: list[Change] = []

    def of(self, plan: Plan, files: Sequence[str] = ()) -> tuple[Change, ...]:
        """Return what the plan will make, and what mounts onto `files` will."""
        own = tuple(mount.container_path + "/" for mount in plan.edits.mounts if mount.type == "tmpfs")
        for mount in plan.edits.mounts:
            if mount.container_path.startswith(own):
                continue  # in a file system of the hook's own, which leaves nothing behind
            if mount.type == "tmpfs" or os.path.isdir(mount.host_path):
                self._directory(mount.container_path)
            else:
                self._file(mount.container_path)
        for link in plan.links:
            self._link(link.path, link.target)
        for node in plan.edits.device_nodes:
            # A node or, where a node would be useless or a link is in its place, an empty file to bind the host's on.
            if self._status(node.path) is None:
                self._add(kind=NODE, path=node.path, device=os.makedev(node.major, node.minor))
            self._file(node.path)
        for path in files:
            self._file(path)
        return tuple(self.changes)

    def _add(self, *, kind: str, path: str, target: str = "", device: int = 0, was: str = "") -> None:
        passing = self._is_passing(os.path.dirname(path))
        self.changes.append(Change(kind=kind, path=path, target=target, device=device, was=was, passing=passing))

    def _is_passing(self, directory: str) -> bool:
        if directory not in self._passing:
            fd = self._directory(directory)
            if fd is None:
                self._passing[directory] = self._is_passing(os.path.dirname(directory))
            else:
                self._passing[directory] = syscalls.mount_id(fd) != self._rootfs.mount_id
        return self._passing[directory]

    def _file(self, path: str) -> None:
        status = self._status(path)
        if status is None:
            self._add(kind=FILE, path=path)
        elif stat.S_ISLNK(status.st_mode) and not self._rootfs.exists(path):
            self._add(kind=LINK, path=path, was=self._target(path))
            self._add(kind=FILE, path=path)

    def _link(self, path: str, target: str) -> None:
        status = self._status(path)
        if status is None:
            self._add(kind=LINK, path=path, target=target)
        elif stat.S_ISLNK(status.st_mode) and (was := self._target(path)) != target:
            self._add(kind=LINK, path=path, target=target, was=was)

    def _directory(self, path: str) -> int | None:
        path = path.rstrip("/") or "/"
        if path not in self._directories:
            fd = self._rootfs.directory(path)
            if fd is None:
                self._directory(os.path.dirname(path))
                self._add(kind=DIRECTORY, path=path)
            self._directories[path] = fd
        return self._directories[path]

    def _status(self, path: str) -> os.stat_result | None:
        directory, name = os.path.split(path)
        fd = self._directory(directory)
        if fd is None:
            return None
        try:
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _target(self, path: str) -> str:
        directory, name = os.path.split(path)
        return os.readlink(name, dir_fd=self._directory(directory))

    def close(self) -> None:
        """Close the directories looked at."""
        for fd in self._directories.values():
            if fd is not None:
                os.close(fd)
