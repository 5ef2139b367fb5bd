"""Which files are believed: those that only root or this user can have written."""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.errors import StateError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def is_trusted(status: os.stat_result) -> bool:
    """Tell whether only root or this user can have written the file that has this status."""
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & _WRITABLE_BY_OTHERS


def read_trusted(path: str, limit: int, dir_fd: int | None = None) -> bytes:
    """Return the contents of a file that this project wrote, and replaces as a whole (`files.replace_file`).

    dir_fd: descriptor of the directory in which `path` begins. Raises OSError where the file cannot be opened or read,
    StateError where it is no regular file, where others could have written it, or where it is over the limit.
    """
    try:
        fd = os.open(path, _OPEN, dir_fd=dir_fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        import errno

        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symlink; a socket
            raise _untrusted(path, f"is no regular file ({reason(error)})") from None
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _untrusted(path, "is no regular file")
        if not is_trusted(found):
            owner, mode = found.st_uid, found.st_mode & 0o777
            raise _untrusted(path, f"could be written by others (owner {owner}, mode {mode:o})")
        if found.st_size > limit:
            raise _untrusted(path, f"is larger than {limit} bytes")
        return os.read(fd, found.st_size)
    finally:
        os.close(fd)


def _untrusted(path: str, why: str) -> StateError:
    return StateError(f"state file {path}", why, "find out who wrote there")
