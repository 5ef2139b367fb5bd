"""Directories of a container's file system, each resolved once and held open: where things are made, by single names.

`Rootfs` finds what an image has; here is what the hook adds to it. Nothing is made in a volume, which is the host's.
"""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.apply.rootfs.rootfs import unsafe
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import ApplyError, UnsafeRootfs, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, Self

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.devices.edits import DeviceNode

_ST_NODEV: Final = 4  # include/linux/statfs.h
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Directories:
    """The directories that a plan touches, by path ("" for the root); open until the `with` block ends, or `close`."""

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs = rootfs
        self._known: dict[str, Directory | None] = {}  # None: not there, when it was looked for

    def find(self, unsafe_path: str) -> Directory | None:
        """Return the directory, None where nothing is there. Raises UnsafeRootfs for anything else."""
        known = self._known
        if unsafe_path not in known:
            if known.get(unsafe_path.rpartition("/")[0], self) is None:
                fd = None  # nothing is in a directory that is not there
            else:
                fd = self._rootfs.directory(unsafe_path or "/")
            known[unsafe_path] = None if fd is None else Directory(self._rootfs, fd, unsafe_path)
        return known[unsafe_path]

    def make(self, unsafe_path: str) -> Directory:
        """Return the directory, made with its parents if missing. Raises UnsafeRootfs, ApplyError."""
        found = self._known.get(unsafe_path) or self.find(unsafe_path)
        if found is None:
            parent, _, name = unsafe_path.rpartition("/")
            found = self._known[unsafe_path] = self.make(parent).make_directory(name)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all descriptors."""
        for directory in self._known.values():
            if directory is not None:
                os.close(directory.fd)


class Directory:
    """A directory of a rootfs as an O_PATH descriptor. path: the container's. mount_id: of the mount it is reached by.

    What is made belongs to the container's root. Names are single ones; none is followed where it is a symbolic link.
    """

    def __init__(self, rootfs: Rootfs, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self.mount_id = syscalls.mount_id(fd)
        self._rootfs = rootfs
        self._mounted = self.mount_id != rootfs.mount_id  # another mount: a volume perhaps
        self._takes_nodes: bool | None = None

    def refuse_volume(self, name: str) -> None:
        """Raise UnsafeRootfs where this lies in a volume: what is changed there is changed on the host."""
        if self._mounted and self._rootfs.is_of_host(self.mount_id):
            why = f"{quoted(self.path or '/')} is a volume of the host, where the hook creates nothing"
            what = f"cannot place {quoted(f'{self.path}/{name}')}"
            raise UnsafeRootfs(what, why, "mount the volume elsewhere in the container")

    def takes_nodes(self) -> bool:
        """Tell whether a device node made here could be opened: not where the mount has `nodev`."""
        if self._takes_nodes is None:
            self._takes_nodes = not os.fstatvfs(self.fd).f_flag & _ST_NODEV
        return self._takes_nodes

    def make_directory(self, name: str) -> Directory:
        """Make a directory of mode 0755, unless there is one. Raises UnsafeRootfs for anything else, ApplyError."""
        self.refuse_volume(name)
        path = f"{self.path}/{name}"
        try:
            try:
                os.mkdir(name, 0o755, dir_fd=self.fd)
            except OSError as error:
                self._make_again(error, name, os.mkdir, name, 0o755)
        except FileExistsError:
            pass  # a dangling link, or made meanwhile: the open below proves what is there
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=self.fd)
        except OSError as error:
            raise unsafe(path, error) from None
        self._own(name)
        return Directory(self._rootfs, fd, path)

    def make_file(self, name: str, contents: bytes = b"") -> int:
        """Make a regular file of mode 0644 that was not there; return its descriptor.

        Raises FileExistsError, UnsafeRootfs, ApplyError.
        """
        if self._mounted:
            self.refuse_volume(name)
        # An empty one is not opened for writing, which would keep the runtime from making the rootfs read-only.
        flags = _NEW | os.O_WRONLY if contents else _NEW
        try:
            fd = os.open(name, flags, 0o644, dir_fd=self.fd)
        except OSError as error:
            fd = self._make_again(error, name, os.open, name, flags, 0o644)
        if contents or self._rootfs.owner != (0, 0):
            self._fill(fd, name, contents)
        return fd

    def _fill(self, fd: int, name: str, contents: bytes) -> None:
        """Give a file that was just made its owner and contents, or remove it."""
        try:
            if self._rootfs.owner != (0, 0):
                os.fchown(fd, *self._rootfs.owner)
            written = 0
            while written < len(contents):
                written += os.write(fd, contents[written:])
        except OSError as error:
            os.close(fd)
            os.unlink(name, dir_fd=self.fd)
            raise cannot_create(f"{self.path}/{name}", error) from None

    def make_link(self, name: str, target: str) -> None:
        """Make a symbolic link that was not there. Raises FileExistsError, UnsafeRootfs, ApplyError."""
        if self._mounted:
            self.refuse_volume(name)
        try:
            os.symlink(target, name, dir_fd=self.fd)
        except OSError as error:
            self._make_again(error, name, os.symlink, target, name)
        self._own(name)

    def make_node(self, name: str, node: DeviceNode) -> None:
        """Make a character device node and look at what came of it. Raises OSError (mknod's), UnsafeRootfs."""
        self.refuse_volume(name)
        device = os.makedev(node.major, node.minor)
        # The umask is 0 (`attach`): mknod sets the exact mode; a chmod by name would follow a link put in its place.
        os.mknod(name, stat.S_IFCHR | node.file_mode, device, dir_fd=self.fd)
        found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        if found.st_uid != node.uid or found.st_gid != node.gid:
            os.chown(name, node.uid, node.gid, dir_fd=self.fd, follow_symlinks=False)
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != device:
            why = "was exchanged while it was made"
            raise UnsafeRootfs(f"device node {quoted(node.path)}", why, "do not run this image")

    def _make_again(self, error: OSError, name: str, make: Callable[..., Any], *arguments: object) -> Any:
        """Make what could not be made as the container's root, where it lies in a file system of its user namespace.

        Those have no name for the host's root, and refuse what it makes with EOVERFLOW. Raises FileExistsError,
        ApplyError.
        """
        if error.errno == errno.EOVERFLOW and self._rootfs.owner != (0, 0):
            syscalls.set_fs_ids(*self._rootfs.owner)
            try:
                return make(*arguments, dir_fd=self.fd)
            except OSError as other:
                error = other
            finally:
                syscalls.set_fs_ids(os.geteuid(), os.getegid())
        if isinstance(error, FileExistsError):
            raise error
        raise cannot_create(f"{self.path}/{name}", error) from None

    def _own(self, name: str) -> None:
        if self._rootfs.owner != (0, 0):
            os.chown(name, *self._rootfs.owner, dir_fd=self.fd, follow_symlinks=False)


def cannot_create(unsafe_path: str, error: OSError) -> ApplyError:
    """Return the error for a file that the container's file system does not take."""
    remedy = {
        errno.EROFS: "make the container's file system writable at this path, or ship the file in the image",
        errno.ENOSPC: "free space on the file system of the container's rootfs",
        errno.EDQUOT: "free space on the file system of the container's rootfs",
    }.get(error.errno or 0, "look at the permissions of the container's rootfs")
    return ApplyError(f"cannot create {quoted(unsafe_path)} in the container", reason(error), remedy)
