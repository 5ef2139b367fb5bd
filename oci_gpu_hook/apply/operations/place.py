"""Prepares the places of edits: their directories, and the files or directories that mounts are attached to.

What is missing is created, belongs to the container's root, and is removed later if it is still empty.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply.rootfs.rootfs import unsafe
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import UnsafeRootfs, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Final, Self, TypeAlias

    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.apply.rootfs.directory import Directories, Directory

    # A detached mount, the descriptor that it will be attached to, and the container's path of that, for messages.
    Attachment: TypeAlias = tuple[int, int, str]

_ENTRY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
ATTEMPTS: Final = 4  # a container on the same rootfs may create or remove a file between its inspection and its use


class Descriptors:
    """Descriptors that are closed at the end of a `with` block. Mounts that were attached by then stay."""

    def __init__(self) -> None:
        self._opened: list[int] = []

    def keep(self, fd: int) -> int:
        """Take ownership of a descriptor, and return it."""
        self._opened.append(fd)
        return fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        close = os.close
        for fd in self._opened:
            close(fd)


class Materializing:
    """What the kinds of edits use to make their edits.

    absent: paths where preflight has found nothing, so that no second inspection is needed. keep: keeps descriptors
    open until the mounts are attached. attachments: prepared mounts, in order. user_namespace: whether the container
    has one. state_file: a path for contents until they are mounted.
    """

    def __init__(
        self, site: Site, directories: Directories, absent: Collection[str], opened: Descriptors, state_file: str
    ) -> None:
        self.rootfs = rootfs = site.rootfs
        self.directories = directories
        self.absent = absent
        self.keep = opened.keep
        self.user_namespace = "user" in site.container.namespaces
        self.state_file = state_file
        self.attachments: list[Attachment] = []
        self._root = os.fstat(rootfs.fd)
        self._own: dict[str, int] = {}  # container path with a slash → detached file system
        self._in_own: tuple[str, ...] = ()  # those paths

    def mount(self, tree: int, path: str, *, directory: bool) -> None:
        """Register a detached mount to be attached at `path`."""
        self.attachments.append((tree, self.mountpoint(path, directory=directory), path))

    def mount_own(self, tree: int, path: str) -> None:
        """Register a detached file system of the hook's own, which contains the mountpoints for mounts below it."""
        self.mount(tree, path, directory=True)
        self._own[path + "/"] = tree
        self._in_own = tuple(self._own)

    def mountpoint(self, path: str, *, directory: bool) -> int:
        """Return a descriptor of the file or directory at `path`, created if missing. Raises HookError, OSError."""
        if path.startswith(self._in_own):
            return self._own_mountpoint(path)
        if directory:
            fd = self.directories.make(path).fd
            refuse_odd(fd, path, self._root)
            return fd
        parent, _, name = path.rpartition("/")
        place = self.directories.make(parent)
        is_new = path in self.absent
        for _ in range(ATTEMPTS):
            try:
                return self.keep(place.make_file(name)) if is_new else self._image_file(place, name, path)
            except FileExistsError:
                is_new = False
            except FileNotFoundError:
                is_new = True
        raise UnsafeRootfs(
            f"container path {quoted(path)}", "keeps changing", "stop what renames files in the rootfs", "OGH1602"
        )

    def _own_mountpoint(self, path: str) -> int:
        """Return a descriptor of the path's mountpoint in a file system of the hook's own."""
        own = next(own for own in self._in_own if path.startswith(own))
        return self.keep(syscalls.openat2(self._own[own], path[len(own) :], os.O_PATH, syscalls.RESOLVE_BENEATH))

    def _image_file(self, place: Directory, name: str, path: str) -> int:
        """Return a descriptor of the image's file. If there is none, remove a dangling link; FileNotFoundError."""
        fd = self.keep(os.open(name, _ENTRY, dir_fd=place.fd))
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            if not stat.S_ISLNK(found.st_mode):
                raise in_the_way(path, found.st_mode)
            try:
                fd = self.keep(self.rootfs.resolve(path))
            except FileNotFoundError:
                place.refuse_volume(name)
                os.unlink(name, dir_fd=place.fd)  # the journal has the link's target
                raise
            except OSError as error:
                raise unsafe(path, error) from None
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise in_the_way(path, found.st_mode)
        refuse_odd(fd, path, self._root)
        return fd


def refuse_odd(fd: int, path: str, root: os.stat_result) -> None:
    """Refuse a mountpoint that an image redirects to / or to the kernel's files, which the runtime still needs.

    A mount over /proc/PID/attr/exec, for example, would swallow the process's confinement (CVE-2019-16884).
    """
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino) == (root.st_dev, root.st_ino):
        where = "the root directory"
    elif (
        found.st_dev != root.st_dev
        and not path.startswith("/proc/")
        and syscalls.file_system_type(fd) in syscalls.KERNEL_FILE_SYSTEMS
    ):
        where = "the kernel's files"
    else:
        return
    raise UnsafeRootfs(
        f"container path {quoted(path)}", f"leads to {where}", "remove the link from the image", "OGH1601"
    )


def in_the_way(path: str, mode: int) -> UnsafeRootfs:
    """Return the error for something in an image that is in the way of an edit."""
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFBLK: "block device"}
    kind = kinds.get(stat.S_IFMT(mode), "device node of other numbers")
    return UnsafeRootfs(
        f"container path {quoted(path)}", f"the image has a {kind} there", "remove it from the image", "OGH1601"
    )


def is_shared(path: str) -> UnsafeRootfs:
    """Return the error for a mountpoint in a shared mount."""
    why = "lies in a mount that is shared with the host, which would see what is mounted there"
    return UnsafeRootfs(
        f"container path {quoted(path)}", why, "mount it private or as a slave in the container", "OGH1603"
    )
