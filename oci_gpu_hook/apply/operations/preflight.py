"""Inspects, before anything is made, where a plan's edits go in a rootfs: what will be made, and what cannot be."""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.apply.journal import changes
from oci_gpu_hook.apply.operations.place import in_the_way, is_shared, refuse_odd
from oci_gpu_hook.apply.rootfs.directory import in_volume
from oci_gpu_hook.apply.rootfs.rootfs import unsafe
from oci_gpu_hook.base.errors import UnsafeRootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.apply.journal.changes import Change
    from oci_gpu_hook.apply.rootfs.directory import Directories, Directory, NoPlace
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.errors import HookError


class Preflight:
    """Determines what will have to be made in a rootfs. It raises what making it would raise.

    changes: what will be made, in order. absent: paths of files, links and nodes that do not exist, and so can be made
    without a second inspection. mounted: the identities of the host's files that will be mounted; own_mounted: of
    file systems of the hook's own. cached: paths that
    will be added to the rootfs's own ld cache. left_out: paths of optional edits that have no place, with the reason.

    shared: ids of shared mounts other than the rootfs's own.
    """

    def __init__(
        self, rootfs: Rootfs, directories: Directories, shared: frozenset[int], *, root_readonly: bool
    ) -> None:
        self.rootfs = rootfs
        self.directories = directories
        self.root_readonly = root_readonly
        self._shared = shared
        self._root = os.fstat(rootfs.fd)
        self._root_mount = rootfs.mount_id
        self._places: dict[str, tuple[Directory | None, int]] = {}  # results of `_place`
        self._taking: set[Directory] = set()  # directories in which something can be made
        self.changes: list[Change] = []
        self.absent: set[str] = set()
        self.mounted: tuple[tuple[str, int, int, int, int], ...] = ()
        self.own_mounted: tuple[tuple[str, int, int, int, int], ...] = ()
        self.cached: tuple[str, ...] = ()
        self.left_out: dict[str, NoPlace] = {}

    def directory(self, path: str) -> None:
        """Inspect a mountpoint that must be a directory. Raises UnsafeRootfs."""
        found, mount = self._places.get(path) or self._place(path)
        self._check_shared(mount, path)
        if found is not None:
            refuse_odd(found.fd, path, self._root)

    def file(self, path: str) -> None:
        """Inspect a mountpoint that must be a file. A dangling link will be removed. Raises UnsafeRootfs."""
        directory, passing, found = self.entry(path)
        if directory is None or found is None:
            self._check_shared(self._places[path.rpartition("/")[0]][1], path)
            self.changes.append(changes.file(path, passing))
        elif stat.S_ISLNK(found[0]) and not self.rootfs.exists(path):
            name = path.rpartition("/")[2]
            directory.refuse_making(name)
            self._check_shared(directory.mount_id, path)
            self.changes.append(changes.link(path, "", os.readlink(name, dir_fd=directory.fd), passing))
            self.changes.append(changes.file(path, passing))
        else:
            self._onto(path)

    def entry(self, path: str) -> tuple[Directory | None, bool, tuple[int, int, int, int] | None]:
        """Return a path's directory, whether it is in a mount of the container's own, and what is at the path or None.

        The directory is None if it will be made. What is at the path: mode, size, device number and mount. Raises
        UnsafeRootfs if nothing is there and nothing can be made, or if a component of the path is not a directory.
        """
        parent, _, name = path.rpartition("/")
        directory, mount = self._places.get(parent) or self._place(parent)
        if directory is not None:
            found = directory.entry(name)
            if found is not None:
                return directory, mount != self._root_mount, found
            if directory not in self._taking:
                directory.refuse_making(name)
                self._taking.add(directory)
        self.absent.add(path)
        return directory, mount != self._root_mount, None

    def _place(self, path: str) -> tuple[Directory | None, int]:
        """Return a directory, None if it will be made, and the id of its mount."""
        parent, _, name = path.rpartition("/")
        try:
            found = self.directories.find(path)
        except UnsafeRootfs as error:
            raise self._in_volume(path, error) from None
        if found is None:
            above, mount = self._places.get(parent) or self._place(parent)
            if above is not None and above.entry(name) is not None:
                found = self._made_meanwhile(path)
                mount = found.mount_id
            else:
                if above is not None:
                    above.refuse_making(name)
                self.changes.append(changes.directory(path, mount != self._root_mount))
        else:
            mount = found.mount_id
        place = self._places[path] = found, mount
        return place

    def _made_meanwhile(self, path: str) -> Directory:
        """Return a directory that was not there a moment ago: another start on this rootfs has made it.

        Raises UnsafeRootfs for a link that leads nowhere.
        """
        found = self.directories.find_again(path)
        if found is None:
            raise self._in_volume(path, unsafe(path, OSError(errno.ENOTDIR, "")))
        return found

    def _onto(self, path: str) -> None:
        """Inspect a file of the image that something will be mounted on."""
        try:
            fd = self.rootfs.resolve(path)
        except OSError as error:
            raise self._in_volume(path, unsafe(path, error)) from None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise self.in_the_way(path, status.st_mode)
            self._check_shared(self.rootfs.mount_of(fd), path)
            refuse_odd(fd, path, self._root)
        finally:
            os.close(fd)

    def in_the_way(self, path: str, mode: int) -> HookError:
        """Return the error for something that is in the way of an edit."""
        return self._in_volume(path, in_the_way(path, mode))

    def _in_volume(self, path: str, error: HookError) -> HookError:
        """If the obstacle is in a volume, return the error that says so, since the image is not at fault."""
        if isinstance(error, UnsafeRootfs) and self.rootfs.is_volume(path):
            return in_volume(path, "with something else of that name")
        return error

    def _check_shared(self, mount: int, path: str) -> None:
        if mount in self._shared:
            raise is_shared(path)
