"""Decides which files can be trusted: those that only root or this user can have written."""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.errors import StateError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def is_trusted(status: os.stat_result, *owners: int) -> bool:
    """Tell by a file's status whether only root or this user can have written it. owners: further users who may."""
    return status.st_uid in (0, os.geteuid(), *owners) and not status.st_mode & _WRITABLE_BY_OTHERS


def read_trusted(path: str, limit: int, dir_fd: int | None = None) -> bytes:
    """Return the contents of a file that this project wrote and always replaces as a whole (`files.replace_file`).

    dir_fd: descriptor of the directory in which `path` begins. Raises OSError if the file cannot be opened or read,
    StateError if it is not a regular file, if others could have written it, or if it is over the limit.
    """
    try:
        fd = os.open(path, _OPEN, dir_fd=dir_fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        import errno

        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symlink; a socket
            raise _untrusted(path, f"is not a regular file ({reason(error)})") from None
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _untrusted(path, "is not a regular file")
        if not is_trusted(found):
            owner, mode = found.st_uid, found.st_mode & 0o777
            raise _untrusted(path, f"could be written by others (owner {owner}, mode {mode:o})")
        if found.st_size > limit:
            raise _untrusted(path, f"is larger than {limit} bytes")
        return os.read(fd, found.st_size)
    finally:
        os.close(fd)


def _untrusted(path: str, why: str) -> StateError:
    return StateError(f"state file {path}", why, "find out who wrote there", "OGH1112")
