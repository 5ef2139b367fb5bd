"""Directories of a container's file system, each resolved once and held open, in which entries are created by name.

`Rootfs` finds what an image has; this module adds to it. Nothing is created in volumes, which belong to the host.
"""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.apply.rootfs.rootfs import read_and_close, reopened, unsafe
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import ApplyError, UnsafeRootfs, quoted, reason, shortage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, Self

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.devices.edits import DeviceNode

_NOT_WRITABLE: Final = "make the container's file system writable at this path, or ship the file in the image"
_ST_NODEV: Final = 4  # include/linux/statfs.h
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS_OF_NEW: Final = {stat.S_IFDIR: 2, stat.S_IFLNK: 1, stat.S_IFREG: 1, stat.S_IFIFO: 1}  # a directory also: itself
_KINDS_OF_NEW: Final = {os.mkdir: stat.S_IFDIR, os.symlink: stat.S_IFLNK, os.mkfifo: stat.S_IFIFO}
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NoPlace(UnsafeRootfs):
    """Something cannot be created at its path, but a container may be able to do without it."""


def in_volume(unsafe_path: str, found: str = "where the hook creates nothing") -> NoPlace:
    """Return the error for a path in a volume of the host. found: what is in the way there."""
    where = os.path.dirname(unsafe_path)
    return NoPlace(
        f"cannot place {quoted(unsafe_path)}",
        f"{quoted(where)} is a volume of the host, {found}",
        "mount the volume elsewhere in the container, or put an empty file or directory of that name into it",
        "OGH1508",
    )


class Directories:
    """The directories of a plan, by path ("" for the root); open until the end of the `with` block, or `close`."""

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs = rootfs
        self._known: dict[str, Directory | None] = {}  # None: did not exist when it was looked up

    def find(self, unsafe_path: str) -> Directory | None:
        """Return the directory, None if nothing is there. Raises UnsafeRootfs for anything else."""
        known = self._known
        if unsafe_path not in known:
            if known.get(unsafe_path.rpartition("/")[0], self) is None:
                fd = None  # its parent does not exist
            else:
                fd = self._rootfs.directory(unsafe_path or "/")
            known[unsafe_path] = None if fd is None else Directory(self._rootfs, fd, unsafe_path)
        return known[unsafe_path]

    def find_again(self, unsafe_path: str) -> Directory | None:
        """Do what `find` does for a path at which nothing was: something may have been made there since."""
        del self._known[unsafe_path]
        return self.find(unsafe_path)

    def make(self, unsafe_path: str) -> Directory:
        """Return the directory, created with its parents if missing. Raises UnsafeRootfs, ApplyError."""
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
    """A directory of a rootfs as an O_PATH descriptor. path: in the container. mount_id: of its mount.

    New entries belong to the container's root. Names are single path components, and symbolic links are not followed.
    """

    def __init__(self, rootfs: Rootfs, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self.mount_id = rootfs.mount_of(fd)
        self._rootfs = rootfs
        self._mounted = self.mount_id != rootfs.mount_id  # another mount, perhaps a volume
        self._takes_nodes: bool | None = None
        self._is_read_only: bool | None = None

    def refuse_volume(self, name: str) -> None:
        """Raise NoPlace if this directory is in a volume, where every change is a change of the host."""
        if self._mounted and self._rootfs.is_of_host(self.mount_id):
            raise in_volume(f"{self.path}/{name}")

    def refuse_making(self, name: str) -> None:
        """Raise NoPlace if nothing can, or must, be created here."""
        self.refuse_volume(name)
        if self._is_read_only is None:
            self._is_read_only = self._rootfs.is_read_only(self.fd)
        if self._is_read_only:
            error = cannot_create(f"{self.path}/{name}", OSError(errno.EROFS, os.strerror(errno.EROFS)))
            raise NoPlace(error.what, error.why, error.remedy, error.code)

    def entry(self, name: str) -> tuple[int, int, int, int] | None:
        """Return mode, size, device number and mount id of an entry, None if it does not exist."""
        return self._rootfs.entry(self.fd, name)

    def takes_nodes(self) -> bool:
        """Tell whether a device node created here could be opened, which it could not on a `nodev` mount."""
        if self._takes_nodes is None:
            self._takes_nodes = not os.fstatvfs(self.fd).f_flag & _ST_NODEV
        return self._takes_nodes

    def read(self, name: str, limit: int) -> bytes:
        """Return a regular file's contents, b"" if this directory itself has none, or it is larger than `limit`."""
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError:
            return b""
        if syscalls.mount_id(fd) != self.mount_id:  # something is mounted over it
            os.close(fd)
            return b""
        read_fd = reopened(fd)
        return b"" if read_fd is None else read_and_close(read_fd, limit)

    def make_directory(self, name: str) -> Directory:
        """Create a directory of mode 0755 unless it exists. Raises UnsafeRootfs for anything else, ApplyError."""
        self.refuse_volume(name)
        path = f"{self.path}/{name}"
        try:
            self._make(name, os.mkdir, name, 0o755)
        except FileExistsError:
            pass  # a dangling link, or created meanwhile; the open below shows what it is
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=self.fd)
        except OSError as error:
            raise unsafe(path, error) from None
        return Directory(self._rootfs, fd, path)

    def make_file(self, name: str, contents: bytes = b"") -> int:
        """Create a regular file of mode 0644; return its descriptor.

        Raises FileExistsError, UnsafeRootfs, ApplyError.
        """
        if self._mounted:
            self.refuse_volume(name)
        # Not opened for writing if it stays empty, since that would keep the runtime from making the rootfs read-only.
        flags = _NEW | os.O_WRONLY if contents else _NEW
        fd: int = self._make(name, os.open, name, flags, 0o644)
        if contents:
            self._fill(fd, name, contents)
        return fd

    def _fill(self, fd: int, name: str, contents: bytes) -> None:
        """Write the contents of a new file; remove the file if that fails."""
        try:
            written = 0
            while written < len(contents):
                written += os.write(fd, contents[written:])
        except OSError as error:
            os.close(fd)
            os.unlink(name, dir_fd=self.fd)
            raise cannot_create(f"{self.path}/{name}", error) from None

    def make_link(self, name: str, target: str) -> None:
        """Create a symbolic link. Raises FileExistsError, UnsafeRootfs, ApplyError."""
        if self._mounted:
            self.refuse_volume(name)
        self._make(name, os.symlink, target, name)

    def make_fifo(self, name: str, mode: int) -> None:
        """Create a FIFO. Raises FileExistsError, UnsafeRootfs, ApplyError."""
        self.refuse_volume(name)
        self._make(name, os.mkfifo, name, mode)

    def make_node(self, name: str, node: DeviceNode) -> None:
        """Create a character or block device node, and check the result. Raises mknod's OSError, UnsafeRootfs."""
        self.refuse_volume(name)
        kind = stat.S_IFBLK if node.type == "b" else stat.S_IFCHR
        device = os.makedev(node.major, node.minor)
        # The umask is 0 (`transaction`), so mknod sets the exact mode, and nothing must be changed by name.
        os.mknod(name, kind | node.file_mode, device, dir_fd=self.fd)
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError as error:
            raise unsafe(node.path, error) from None
        try:
            found = os.fstat(fd)
            if stat.S_IFMT(found.st_mode) != kind or found.st_rdev != device or syscalls.mount_id(fd) != self.mount_id:
                raise _exchanged(node.path)
            if found.st_uid != node.uid or found.st_gid != node.gid:
                syscalls.change_owner(fd, node.uid, node.gid)
        finally:
            os.close(fd)

    def _make(self, name: str, make: Callable[..., Any], *arguments: object) -> Any:
        """Create an entry as the container's root. Raises FileExistsError, ApplyError, UnsafeRootfs.

        With the file system ids of the container's root the entry belongs to that root at once, and its owner need not
        be changed by a name that may lead elsewhere by then. File systems of a user namespace also require this: they
        cannot represent the host's root, and fail with EOVERFLOW.
        """
        owner = self._rootfs.owner
        try:
            if owner == (0, 0):
                return make(*arguments, dir_fd=self.fd)
            syscalls.set_fs_ids(*owner)
            try:
                return make(*arguments, dir_fd=self.fd)
            finally:
                syscalls.set_fs_ids(os.geteuid(), os.getegid())
        except FileExistsError:
            raise
        except OSError as error:
            if owner == (0, 0) or error.errno not in (errno.EACCES, errno.EPERM):
                raise cannot_create(f"{self.path}/{name}", error) from None
        return self._make_and_give(name, make, *arguments)

    def _make_and_give(self, name: str, make: Callable[..., Any], *arguments: object) -> Any:
        """Create an entry as the host's root, where the container's root may not write, and change its owner.

        The owner is changed by a descriptor, after a check that it is the new entry: the host root's, on this mount,
        empty.
        """
        path = f"{self.path}/{name}"
        try:
            made = make(*arguments, dir_fd=self.fd)
            fd = made if type(made) is int else os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        except FileExistsError:
            raise
        except OSError as error:
            raise cannot_create(path, error) from None
        try:
            self._give(fd, _KINDS_OF_NEW.get(make, stat.S_IFREG), path)
        except BaseException:
            os.close(fd)
            raise
        if fd != made:
            os.close(fd)
        return made

    def _give(self, fd: int, kind: int, path: str) -> None:
        found = os.fstat(fd)
        is_new = found.st_uid == os.geteuid() and found.st_nlink <= _LINKS_OF_NEW[kind]
        if stat.S_IFMT(found.st_mode) != kind or not is_new or syscalls.mount_id(fd) != self.mount_id:
            raise _exchanged(path)
        syscalls.change_owner(fd, *self._rootfs.owner)


def _exchanged(unsafe_path: str) -> UnsafeRootfs:
    why = "was replaced while it was made"
    return UnsafeRootfs(f"container path {quoted(unsafe_path)}", why, "do not run this image", "OGH1602")


def cannot_create(unsafe_path: str, error: OSError) -> ApplyError:
    """Return the error for a file that cannot be created in the container's file system."""
    if short := shortage(error):
        return short
    remedy = {
        errno.EROFS: _NOT_WRITABLE,
        errno.ENOSPC: "free space on the file system of the container's rootfs",
        errno.EDQUOT: "free space on the file system of the container's rootfs",
    }.get(error.errno or 0, "look at the permissions of the container's rootfs")
    return ApplyError(f"cannot create {quoted(unsafe_path)} in the container", reason(error), remedy, "OGH1507")
