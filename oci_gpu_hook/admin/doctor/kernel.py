"""The kernel: its version, and the system calls that a container's start needs."""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, OK, Finding, Host
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_NAME: Final = "kernel"
_OLDEST: Final = (5, 12)  # mount_setattr(2)
_CALLS: Final = (
    ("open_tree", syscalls.NR_OPEN_TREE, (-1, b"\0", 0)),
    ("move_mount", syscalls.NR_MOVE_MOUNT, (-1, b"\0", -1, b"\0", 0)),
    ("fsopen", syscalls.NR_FSOPEN, (b"no such file system\0", 0)),
    ("openat2", syscalls.NR_OPENAT2, (-1, b"\0", b"\0" * 24, 24)),
    ("mount_setattr", syscalls.NR_MOUNT_SETATTR, (-1, b"\0", 0, b"\xff" * 32, 32)),
)


def check(_host: Host) -> Iterator[Finding]:
    """Try calls that cannot succeed: a kernel that has them complains about the arguments."""
    release = os.uname().release
    version = _version(release)
    if version and version < _OLDEST:
        why = "files are mounted by descriptor, which needs mount_setattr(2)"
        yield Finding(check=_NAME, severity=ERROR, what=f"Linux {release}", why=why, remedy="use Linux 5.12 or later")
    refused = [(name, error) for name, number, arguments in _CALLS if (error := _refusal(number, arguments))]
    for name, error in refused:
        what = f"{name}(2) is refused: {error}"
        why = "no container can be given GPUs without it"
        remedy = "use Linux 5.12 or later, and let no seccomp profile refuse it to the engine"
        yield Finding(check=_NAME, severity=ERROR, what=what, why=why, remedy=remedy)
    if not refused:
        yield Finding(check=_NAME, severity=OK, what=f"Linux {release} has the system calls that are needed")
    if os.geteuid() != 0:
        what = "not run as root: what only root may see is left out"
        yield Finding(check=_NAME, severity=NOTE, what=what, remedy="run as root: sudo oci-gpu doctor")


def _version(release: str) -> tuple[int, int] | None:
    words = release.split(".")
    minor = "".join(c for c in words[1] if c.isdecimal()) if len(words) > 1 else ""
    return (int(words[0]), int(minor)) if words[0].isdecimal() and minor else None


def _refusal(number: int, arguments: tuple[int | bytes, ...]) -> str:
    """Return why the kernel refuses any such call, "" if it complains about the arguments."""
    try:
        syscalls.raw(number, *arguments)
    except OSError as error:
        refused = error.errno == errno.ENOSYS or (error.errno in (errno.EPERM, errno.EACCES) and os.geteuid() == 0)
        return reason(error) if refused else ""
    return ""
