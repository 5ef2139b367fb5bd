"""Reading what this project wrote into the state directory, and refusing what others may have written."""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.base.errors import reason
from oci_gpu_hook.base.state import StateError, is_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_trusted(name: str, limit: int, directory: int) -> bytes:
    """Read a file that this project wrote, and replaces as a whole. Raises StateError for what is none, OSError.

    directory: descriptor of the directory that it is in.
    """
    try:
        fd = os.open(name, READ, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symlink; a socket
            raise _untrusted(name, f"is no regular file ({reason(error)})") from None
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _untrusted(name, "is no regular file")
        if not is_trusted(found):
            owner, mode = found.st_uid, found.st_mode & 0o777
            raise _untrusted(name, f"could be written by others (owner {owner}, mode {mode:o})")
        if found.st_size > limit:
            raise _untrusted(name, f"is larger than {limit} bytes")
        return os.read(fd, found.st_size)
    finally:
        os.close(fd)


def _untrusted(name: str, why: str) -> StateError:
    return StateError(f"state file {name}", why, "find out who wrote there")
