"""The look at what will have to be made in a rootfs, before anything is: it goes into the journal.

It may name more than is made in the end, when something else makes it meanwhile; taking back looks again.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply.journal.changes import DIRECTORY, FILE, LINK, NODE
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.apply.journal.changes import Change
    from oci_gpu_hook.apply.rootfs.directory import Directories, Directory
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.devices.edits import DeviceNode
    from oci_gpu_hook.plan.plan import Plan


class Preflight(Record):
    """What was seen.

    changes: what the plan will make in the rootfs, in order. absent: files, links and nodes that were not there, and so
    can be made without another look.
    """

    changes: tuple[Change, ...]
    absent: frozenset[str]


def look(plan: Plan, rootfs: Rootfs, directories: Directories, files: Sequence[str] = ()) -> Preflight:
    """Return what the plan will make, and what mounts onto `files` will.

    Raises UnsafeRootfs where something other than a directory lies on the way.
    """
    looking = _Look(rootfs, directories)
    looking.at(plan, files)
    return Preflight(changes=tuple(looking.changes), absent=frozenset(looking.absent))


class _Look:
    def __init__(self, rootfs: Rootfs, directories: Directories) -> None:
        self._rootfs = rootfs
        self._directories = directories
        self._places: dict[str, tuple[Directory | None, bool]] = {}  # what `_place` has returned
        self.absent: set[str] = set()
        self.changes: list[Change] = []

    def at(self, plan: Plan, files: Sequence[str]) -> None:
        own = tuple([mount.container_path + "/" for mount in plan.edits.mounts if mount.type == "tmpfs"])
        for mount in plan.edits.mounts:
            path = mount.container_path
            if path.startswith(own):
                continue  # in a file system of the hook's own, which leaves nothing behind
            if mount.directory:
                self._place(path)
            else:
                self._file(path)
        for link in plan.links:
            self._link(link.path, link.target)
        for node in plan.edits.device_nodes:
            self._node(node)
        for path in files:
            self._file(path)

    def _file(self, path: str) -> None:
        directory, name, passing = self._entry(path)
        if directory is None:
            self.changes.append((FILE, path, "", 0, "", passing))
        elif _is_link(directory, name) and not self._rootfs.exists(path):
            self.changes.append((LINK, path, "", 0, _target(directory, name), passing))
            self.changes.append((FILE, path, "", 0, "", passing))

    def _link(self, path: str, target: str) -> None:
        directory, name, passing = self._entry(path)
        if directory is None:
            self.changes.append((LINK, path, target, 0, "", passing))
        elif _is_link(directory, name) and (was := _target(directory, name)) != target:
            self.changes.append((LINK, path, target, 0, was, passing))

    def _node(self, node: DeviceNode) -> None:
        """Add a node or, where it would be useless or a link is in its place, an empty file to bind the host's on."""
        path = node.path
        directory, _name, passing = self._entry(path)
        if directory is None:
            self.changes.append((NODE, path, "", os.makedev(node.major, node.minor), "", passing))
            self.changes.append((FILE, path, "", 0, "", passing))
        else:
            self._file(path)

    def _entry(self, path: str) -> tuple[Directory | None, str, bool]:
        """Return the directory that something is in, None where nothing is; its name there; and `_place`'s passing."""
        parent, _, name = path.rpartition("/")
        directory, passing = self._places.get(parent) or self._place(parent)
        if directory is not None and syscalls.is_there(directory.fd, name):
            return directory, name, passing
        self.absent.add(path)
        return None, name, passing

    def _place(self, path: str) -> tuple[Directory | None, bool]:
        """Return a directory, None where it will be made; passing: whether it lies in a mount of the container."""
        place = self._places.get(path)
        if place is None:
            found = self._directories.find(path)
            if found is None:
                passing = self._place(path.rpartition("/")[0])[1]
                self.changes.append((DIRECTORY, path, "", 0, "", passing))
            else:
                passing = found.mount_id != self._rootfs.mount_id
            place = self._places[path] = found, passing
        return place


def _is_link(directory: Directory, name: str) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode)


def _target(directory: Directory, name: str) -> str:
    return os.readlink(name, dir_fd=directory.fd)
