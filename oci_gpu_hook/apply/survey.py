"""What will have to be made in a rootfs, seen before anything is: the journal's entry of a container.

It may name more than is made in the end, when something else makes it meanwhile; taking back looks again.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply.changes import DIRECTORY, FILE, LINK, NODE, Change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.apply.directory import Directories, Directory
    from oci_gpu_hook.apply.rootfs import Rootfs
    from oci_gpu_hook.plan import Plan


class Survey:
    """Changes that a plan will make to a rootfs, in order. Raises UnsafeRootfs for directories that are none.

    absent: the paths of files, links and nodes that were not there: who places the plan makes them without a look.
    """

    def __init__(self, rootfs: Rootfs, directories: Directories) -> None:
        self._rootfs = rootfs
        self._directories = directories
        self._new_directories: set[str] = set()
        self._passing: dict[str, bool] = {}  # whether what is made in the directory is made in a mount of the container
        self.absent: set[str] = set()
        self.changes: list[Change] = []

    def of(self, plan: Plan, files: Sequence[str] = ()) -> tuple[Change, ...]:
        """Return what the plan will make, and what mounts onto `files` will."""
        own = tuple([mount.container_path + "/" for mount in plan.edits.mounts if mount.type == "tmpfs"])
        for mount in plan.edits.mounts:
            if mount.container_path.startswith(own):
                continue  # in a file system of the hook's own, which leaves nothing behind
            if mount.directory:
                self._directory(mount.container_path)
            else:
                self._file(mount.container_path)
        for link in plan.links:
            self._link(link.path, link.target)
        for node in plan.edits.device_nodes:
            # A node or, where a node would be useless or a link is in its place, an empty file to bind the host's on.
            if self._look(node.path) is None:
                self._add(NODE, node.path, device=os.makedev(node.major, node.minor))
                self._add(FILE, node.path)
            else:
                self._file(node.path)
        for path in files:
            self._file(path)
        return tuple(self.changes)

    def _add(self, kind: str, path: str, target: str = "", *, device: int = 0, was: str = "") -> None:
        passing = self._is_passing(path.rpartition("/")[0])
        fields = {"kind": kind, "path": path, "target": target, "device": device, "was": was, "passing": passing}
        self.changes.append(Change.of(fields))

    def _is_passing(self, path: str) -> bool:
        if path not in self._passing:
            found = self._directory(path)
            if found is None:
                self._passing[path] = self._is_passing(path.rpartition("/")[0])
            else:
                self._passing[path] = found.mount_id != self._rootfs.mount_id
        return self._passing[path]

    def _file(self, path: str) -> None:
        place = self._look(path)
        if place is None:
            self._add(FILE, path)
        elif _is_link(*place) and not self._rootfs.exists(path):
            self._add(LINK, path, was=_target(*place))
            self._add(FILE, path)

    def _link(self, path: str, target: str) -> None:
        place = self._look(path)
        if place is None:
            self._add(LINK, path, target)
        elif _is_link(*place) and (was := _target(*place)) != target:
            self._add(LINK, path, target, was=was)

    def _look(self, path: str) -> tuple[Directory, str] | None:
        """Return where something is: its directory and its name there. None where nothing is."""
        directory, _, name = path.rpartition("/")
        found = self._directory(directory)
        # access() does not raise: an exception costs more than the call, and nearly all is absent.
        if found is not None and os.access(name, os.F_OK, dir_fd=found.fd, follow_symlinks=False):
            return found, name
        self.absent.add(path)
        return None

    def _directory(self, path: str) -> Directory | None:
        found = self._directories.find(path)
        if found is None and path not in self._new_directories:
            self._new_directories.add(path)
            self._directory(path.rpartition("/")[0])
            self._add(DIRECTORY, path)
        return found


def _is_link(directory: Directory, name: str) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode)


def _target(directory: Directory, name: str) -> str:
    return os.readlink(name, dir_fd=directory.fd)
