"""The state directory: its owner, and whether it can be written."""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.admin.doctor.model import ERROR, OK, WARNING, Finding, Host
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.base.trust import is_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_NAME: Final = "state_directory"
_LEAST_ROOM: Final = 1 << 20  # bytes; a container's entry and ld cache are 100 KB
_LEAST_FILES: Final = 100
_WHY: Final = "exclusive requests and those by count fail, others are recorded nowhere, and every start is slow"
_REMEDY: Final = "name another directory, owned by root, as dir in [state] of config.toml"


def check(host: Host) -> Iterator[Finding]:
    """Check the directory as a start does, without creating it."""
    path = host.config.state_dir
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        yield Finding(check=_NAME, severity=OK, what=f"{path} will be made by the first container that asks for a GPU")
        return
    if not stat.S_ISDIR(status.st_mode) or not is_trusted(status):
        what = f"{quoted(path)} is not a directory that only root can write to"
        remedy = f"chown root {path}; chmod 700 {path}"
        yield Finding(check=_NAME, severity=ERROR, what=what, why=_WHY, remedy=remedy)
        return
    room = os.statvfs(path)
    if room.f_flag & os.ST_RDONLY:
        yield Finding(check=_NAME, severity=ERROR, what=f"{path} is read-only", why=_WHY, remedy=_REMEDY)
    elif room.f_bavail * room.f_frsize < _LEAST_ROOM or (room.f_files and room.f_favail < _LEAST_FILES):
        what = f"the file system of {path} is full"
        yield Finding(check=_NAME, severity=WARNING, what=what, why=_WHY, remedy=f"make room there, or {_REMEDY}")
    else:
        free = room.f_bavail * room.f_frsize >> 20
        yield Finding(
            check=_NAME,
            severity=OK,
            what=f"{path} is owned by root, mode {stat.S_IMODE(status.st_mode):04o}, with {free} MiB free",
        )
