"""Reads files up to a limit, and replaces them atomically. For paths of the host, never for those of a container."""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import TooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_PIECE: Final = 1 << 16  # bytes; with much larger pieces the allocator would ask the kernel for memory at every read
_DIGITS: Final = 20  # of 2**64
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read_all(fd: int, limit: int, what: str) -> bytes:
    """Read a descriptor to its end. Raises TooLarge if there are more than `limit` bytes, and OSError."""
    data = _read(fd, limit)
    if len(data) > limit:
        raise TooLarge(what, f"is larger than {limit} bytes", "make it smaller; this limit guards the host")
    return data


def read_file(path: str, limit: int = limits.KERNEL_TABLE, *, dir_fd: int | None = None, flags: int = 0) -> bytes:
    """Return the contents of a file, such as a table of the kernel. Raises OSError, EFBIG if it is over the limit.

    dir_fd: descriptor of the directory in which `path` begins. flags: to open it with, beside O_RDONLY and O_CLOEXEC.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=dir_fd)
    try:
        data = _read(fd, limit)
    finally:
        os.close(fd)
    if len(data) > limit:
        import errno

        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return data


def read_text(path: str, limit: int = limits.PROC_FILE) -> str | None:
    """Return the text of a file of the kernel; None if it is absent, too large, or must not be read."""
    try:
        return read_file(path, limit).decode("utf-8", "replace")
    except OSError:
        return None


def number_in(text: str | None) -> int | None:
    """Return the number in what a file of the kernel says, of 64 bits at most; None for anything else."""
    word = (text or "").strip()
    return int(word) if word.isascii() and word.isdecimal() and len(word) <= _DIGITS else None


def read_start(path: str, size: int) -> bytes:
    """Return the result of one read of at most `size` bytes, for small files of /proc. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def _read(fd: int, limit: int) -> bytes:
    """Read to the end, or to the first byte over the limit."""
    chunks = []
    size = 0
    while size <= limit and (chunk := os.read(fd, min(limit + 1 - size, _PIECE))):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def replace_file(  # noqa: PLR0913  what its users differ in, by name
    path: str,
    data: bytes,
    *,
    mode: int = 0o600,
    owner: tuple[int, int] | None = None,
    dir_fd: int | None = None,
    temporary: str = "",
    sync: bool = False,
) -> None:
    """Replace a file's contents atomically: readers see either the old file or the new one. Raises OSError.

    mode: the file's final permissions, whatever the umask. owner: uid and gid; None for this process's. dir_fd:
    descriptor of the directory in which `path` begins. temporary: the file's name while it is being written, in the
    same directory. sync: whether the data must survive a power failure, which nothing in /run does.
    """
    temporary = temporary or _temporary_name(path)
    try:
        fd = os.open(temporary, _CREATE, 0o600, dir_fd=dir_fd)
    except FileExistsError:  # left behind by a process that was killed
        os.unlink(temporary, dir_fd=dir_fd)
        fd = os.open(temporary, _CREATE, 0o600, dir_fd=dir_fd)
    except OSError as error:
        error.filename = path  # which its caller knows
        raise
    try:
        try:
            if owner is not None:
                os.fchown(fd, *owner)
            if mode != 0o600:
                os.fchmod(fd, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        os.unlink(temporary, dir_fd=dir_fd)
        raise


def drop_unfinished(path: str) -> None:
    """Remove the temporary files that killed processes left, where no process can be replacing the file now."""
    directory, name = os.path.split(path)
    try:
        for found in os.listdir(directory):
            if found.startswith(name + ".") and found.endswith(".new"):
                os.unlink(os.path.join(directory, found))
    except OSError:
        return  # all it costs is the space of a file


def _temporary_name(path: str) -> str:
    """Return a name that no other process uses: processes in two pid namespaces can have the same pid."""
    return f"{path}.{os.getpid()}-{os.stat('/proc/self/ns/pid').st_ino}.new"
