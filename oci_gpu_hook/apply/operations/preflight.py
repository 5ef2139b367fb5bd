"""The look at where the edits of a plan go in a rootfs, before anything is made: what will be, and what cannot."""

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
    """The look at what will have to be made in a rootfs, before anything is. It raises what making it would.

    changes: what will be made, in order. absent: files, links and nodes that were not there, and so can be made without
    another look. mounted: the identities of the host's files that will be mounted. cached: paths that the rootfs's own
    ld cache will be given. left_out: paths of what is optional and has no place, with the reason.

    shared: mounts, but for the rootfs's own, that pass on to the host what is mounted in them.
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
        self._places: dict[str, tuple[Directory | None, int]] = {}  # what `_place` has returned
        self._taking: set[Directory] = set()  # those in which something can be made
        self.changes: list[Change] = []
        self.absent: set[str] = set()
        self.mounted: tuple[tuple[str, int, int, int, int], ...] = ()
        self.cached: tuple[str, ...] = ()
        self.left_out: dict[str, NoPlace] = {}

    def directory(self, path: str) -> None:
        """Look at a mountpoint that is to be a directory. Raises UnsafeRootfs."""
        found, mount = self._places.get(path) or self._place(path)
        self._check_shared(mount, path)
        if found is not None:
            refuse_odd(found.fd, path, self._root)

    def file(self, path: str) -> None:
        """Look at a mountpoint that is to be a file. A link to nothing makes way for it. Raises UnsafeRootfs."""
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
        """Return the directory of a path, whether that passes with a mount, and what is there, None for nothing.

        The directory is None where it will be made. What is there: mode, size, device number and mount. Raises
        UnsafeRootfs where nothing is and nothing can be made, or where something else than a directory is on the way.
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
        """Return a directory, None where it will be made, and the mount that it lies in."""
        parent, _, name = path.rpartition("/")
        try:
            found = self.directories.find(path)
        except UnsafeRootfs as error:
            raise self._in_volume(path, error) from None
        if found is None:
            above, mount = self._places.get(parent) or self._place(parent)
            if above is not None:
                if above.entry(name) is not None:
                    raise self._in_volume(path, unsafe(path, OSError(errno.ENOTDIR, "")))  # a link to nothing
                above.refuse_making(name)
            self.changes.append(changes.directory(path, mount != self._root_mount))
        else:
            mount = found.mount_id
        place = self._places[path] = found, mount
        return place

    def _onto(self, path: str) -> None:
        """Look at a file of the image that something will be mounted on."""
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
        """Return the refusal of something where an edit goes."""
        return self._in_volume(path, in_the_way(path, mode))

    def _in_volume(self, path: str, error: HookError) -> HookError:
        """Return the refusal of what a volume has in the way, where it is one: that is no fault of the image's."""
        if isinstance(error, UnsafeRootfs) and self.rootfs.is_volume(path):
            return in_volume(path, "with something else of that name")
        return error

    def _check_shared(self, mount: int, path: str) -> None:
        if mount in self._shared:
            raise is_shared(path)
