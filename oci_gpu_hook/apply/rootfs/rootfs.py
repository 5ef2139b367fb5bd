"""A container's file system, held by one descriptor. No other code takes paths that an image controls.

Every path is resolved once, by openat2(2) below the descriptor; everything else is done with the resulting descriptor
and single names. The image can make a resolution fail or end elsewhere in its own tree, but never outside it. This
module does not decide what belongs into a container (`plan`), and does not mount (`apply.operations.bind`).
"""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.base import limits, syscalls
from oci_gpu_hook.base.errors import NEW_KERNEL, ApplyError, HookError, UnsafeRootfs, quoted, reason, shortage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, Self

_IN_ROOT: Final = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
# A rename anywhere on the machine may make a scoped resolution fail with EAGAIN (openat2(2)), so it is retried; the
# limit keeps an attacker from making the hook spin. pathrs-lite measured about 0.1 % failures at 128 under constant
# renames.
_RETRIES: Final = 128


class Rootfs:
    """The root directory of a container as an O_PATH descriptor, which the `with` block closes.

    owner: (uid, gid) of the container's root on the host; new files belong to it. own_mounts: called once for the ids
    of the mounts that are the container's own; without it only the rootfs is. All other mounts are volumes of the host,
    in which nothing is created, replaced or removed.
    """

    def __init__(
        self, fd: int, owner: tuple[int, int] = (0, 0), own_mounts: Callable[[int], frozenset[int]] | None = None
    ) -> None:
        self.fd = fd
        self.owner = owner
        self.mount_id = syscalls.mount_id(fd)
        self._ask_own_mounts = own_mounts
        self._own_mounts = frozenset({self.mount_id})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self.fd)

    def resolve(self, unsafe_path: str, flags: int = os.O_PATH, restrictions: int = 0) -> int:
        """Open a path in the container's view. Raises OSError with openat2's errno."""
        fd = self._attempt(unsafe_path, flags, restrictions)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        return fd

    def _attempt(self, unsafe_path: str, flags: int, restrictions: int = 0) -> int:
        """Do what `resolve` does, but return a negative errno on failure: an exception costs more than the call."""
        for _ in range(_RETRIES):
            fd = syscalls.try_openat2(self.fd, unsafe_path, flags, _IN_ROOT | restrictions)
            if fd == -errno.ENOSYS:
                raise ApplyError("cannot open the container's files", "openat2 is refused", NEW_KERNEL, "OGH1501")
            if fd != -errno.EAGAIN:
                return fd
        why = f"{quoted(unsafe_path)} kept changing during {_RETRIES} attempts"
        raise UnsafeRootfs(
            "container rootfs", why, "stop what renames files in it and start the container again", "OGH1602"
        )

    def exists(self, unsafe_path: str) -> bool:
        """Tell whether the path leads to anything."""
        fd = self._resolve_or_none(unsafe_path)
        if fd is None:
            return False
        os.close(fd)
        return True

    def status(self, unsafe_path: str, flags: int = 0) -> os.stat_result | None:
        """Return the stat(2) result of a path, None if it leads to nothing. flags: os.O_NOFOLLOW for that of a link."""
        fd = self._resolve_or_none(unsafe_path, os.O_PATH | flags)
        if fd is None:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def read(self, unsafe_path: str, limit: int, last: int | None = None) -> bytes:
        """Return a regular file's contents, b"" if there is none or it is larger than `limit` bytes.

        last: how many bytes at the file's end to return, None for all of them.
        """
        fd = self.open_file(unsafe_path)
        return b"" if fd is None else read_and_close(fd, limit, last)

    def open_file(self, unsafe_path: str) -> int | None:
        """Return a descriptor for reading a regular file, or None.

        Nothing else is ever opened: an image may have a device node at the path, and opening it can have an effect
        (/dev/watchdog resets the machine).
        """
        fd = self._resolve_or_none(unsafe_path)
        return None if fd is None else reopened(fd)

    def names(self, unsafe_path: str, limit: int = limits.DIRECTORY_NAMES) -> list[str]:
        """Return the names in a directory, at most `limit`, sorted; none if there is no such directory."""
        fd = self._resolve_or_none(unsafe_path, os.O_RDONLY | os.O_DIRECTORY)
        if fd is None:
            return []
        try:
            with os.scandir(fd) as entries:
                return sorted(entry.name for entry, _ in zip(entries, range(limit), strict=False))
        finally:
            os.close(fd)

    def directory(self, unsafe_path: str) -> int | None:
        """Return a descriptor of a directory, None if nothing is there. Raises UnsafeRootfs for anything else."""
        fd = self._attempt(unsafe_path, os.O_PATH | os.O_DIRECTORY)
        if fd >= 0:
            return fd
        if fd == -errno.ENOENT:
            return None
        raise unsafe(unsafe_path, OSError(-fd, os.strerror(-fd)))

    def mount_of(self, fd: int) -> int:
        """Return the id of a descriptor's mount."""
        return syscalls.mount_id(fd)

    def entry(self, fd: int, name: str) -> tuple[int, int, int, int] | None:
        """Return the result of `syscalls.look` for a name in a directory of this rootfs."""
        return syscalls.look(fd, name)

    def is_read_only(self, fd: int) -> bool:
        """Tell whether a descriptor's mount or file system is read-only."""
        return bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)

    def in_volume(self, fd: int) -> bool:
        """Tell whether a descriptor's file is in a volume of the host."""
        return self.is_of_host(self.mount_of(fd))

    def is_of_host(self, mount: int) -> bool:
        """Tell whether the mount with that id is a volume of the host."""
        if mount not in self._own_mounts and self._ask_own_mounts is not None:
            self._own_mounts = self._ask_own_mounts(self.mount_id)
            self._ask_own_mounts = None
        return mount not in self._own_mounts

    def is_volume(self, unsafe_path: str) -> bool:
        """Tell whether the path, or the deepest part of it that exists, is in a volume of the host."""
        while True:
            fd = self._resolve_or_none(unsafe_path)
            if fd is not None:
                try:
                    return self.in_volume(fd)
                finally:
                    os.close(fd)
            if unsafe_path in ("/", ""):
                return False
            unsafe_path = os.path.dirname(unsafe_path)

    def _resolve_or_none(self, unsafe_path: str, flags: int = os.O_PATH) -> int | None:
        fd = self._attempt(unsafe_path, flags)
        return None if fd < 0 else fd  # for a reader absence, a loop, a socket and a lack of permission are the same


def reopened(fd: int) -> int | None:
    """Reopen an O_PATH descriptor of a regular file for reading, and close it; None for other files."""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    finally:
        os.close(fd)


def read_and_close(fd: int, limit: int, last: int | None = None) -> bytes:
    """Return a file's contents, b"" if it is larger than `limit` bytes. last: as in `Rootfs.read`."""
    try:
        size = os.fstat(fd).st_size
        wanted = size if last is None else min(size, last)
        return os.pread(fd, wanted, size - wanted) if size <= limit else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def unsafe(unsafe_path: str, error: OSError) -> HookError:
    """Return the error for a path that does not resolve safely."""
    if short := shortage(error):
        return short
    why = {
        errno.ELOOP: "is a symbolic link where none is allowed, or a loop of links",
        errno.ENOTDIR: "leads through something that is not a directory",
    }.get(error.errno or 0, reason(error))
    return UnsafeRootfs(f"container path {quoted(unsafe_path)}", why, "remove it from the image", "OGH1601")
