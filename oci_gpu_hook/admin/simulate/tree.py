"""Writes files, links and nodes below a directory that this project owns."""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.base.errors import SimulationError, quoted, reason
from oci_gpu_hook.base.record import Record


class Tree(Record):
    """A directory; every path given to it is relative to it. OSErrors are the caller's."""

    root: str

    def path(self, relative: str) -> str:
        """Return the path of an entry, its directory made."""
        path = os.path.join(self.root, relative)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)  # noqa: TID251  no rootfs: a tree of our own
        return path

    def directory(self, relative: str) -> None:
        """Make a directory, and those above it."""
        os.makedirs(os.path.join(self.root, relative), mode=0o755, exist_ok=True)  # noqa: TID251

    def write(self, relative: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file whose permission bits are `mode`, whatever the umask."""
        path = self.path(relative)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.fchmod(fd, mode)
            remaining = memoryview(content if isinstance(content, bytes) else content.encode())
            while remaining:
                remaining = remaining[os.write(fd, remaining) :]
        finally:
            os.close(fd)

    def link(self, relative: str, target: str) -> None:
        """Make a symbolic link."""
        os.symlink(target, self.path(relative))

    def socket(self, relative: str) -> None:
        """Make a socket without a listener."""
        path = self.path(relative)
        os.mknod(path, stat.S_IFSOCK | 0o666)
        os.chmod(path, 0o666)  # noqa: S103  as the daemons make theirs: whoever may see it may connect

    def character_device(self, relative: str, major: int, minor: int, mode: int, gid: int = 0) -> None:
        """Make a character device. Raises SimulationError where this process may not."""
        path = self.path(relative)
        try:
            os.mknod(path, stat.S_IFCHR | mode, os.makedev(major, minor))
            os.chmod(path, mode)
            os.chown(path, 0, gid)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES):
                raise
            raise SimulationError(
                f"device node {quoted(relative)}",
                f"{reason(error)}: making nodes takes root with CAP_MKNOD outside of a user namespace",
                "run it as root (sudo), or ask for a host without nodes (--no-device-nodes)",
                "OGH2005",
            ) from None
