"""What the hook made in a rootfs, and how it is taken back: for rollback, for `poststop`, after a crash.

Every change is written down before it is made, so taking back looks at what is there and removes only what is
recognisably the hook's own: an empty file, a link with its target, a node with its numbers, an empty directory.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.errors import HookError
from oci_gpu_hook.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.apply.rootfs import Rootfs

DIRECTORY: Final = "directory"
FILE: Final = "file"
LINK: Final = "link"
NODE: Final = "node"


class Change(Record):
    """Something made at `path` of the container.

    target: of a link. device: of a node. was: the target of a symbolic link that stood there and comes back.
    passing: made in a mount of the container's, which ends with it; what the rootfs has there below is the image's.
    """

    kind: str
    path: str
    target: str = ""
    device: int = 0
    was: str = ""
    passing: bool = False


def take_back(rootfs: Rootfs, changes: Sequence[Change], *, ended: bool = False) -> None:
    """Remove, last first, what is still there of the changes and still the hook's. Never raises for what is not.

    ended: whether the container has, and its mounts with it.
    """
    for change in reversed(changes):
        if ended and change.passing:
            continue
        unsafe_directory, name = os.path.split(change.path)
        try:
            parent_fd = rootfs.directory(unsafe_directory)
        except (HookError, ValueError):  # ValueError: a damaged entry, whose path no file can have
            continue
        if parent_fd is None:
            continue
        try:
            if not rootfs.in_volume(parent_fd):
                _take_back_one(change, name, parent_fd)
        except (OSError, ValueError):
            continue  # gone, exchanged, in use or read-only: not the hook's any more, or not to be had
        finally:
            os.close(parent_fd)


def _take_back_one(change: Change, name: str, parent_fd: int) -> None:
    if change.kind == DIRECTORY:
        os.rmdir(name, dir_fd=parent_fd)
        return
    try:
        status = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        if change.was:  # it made way, and nothing came in its place or that is taken back already
            os.symlink(change.was, name, dir_fd=parent_fd)
        return
    if change.kind == FILE:
        ours = stat.S_ISREG(status.st_mode) and status.st_size == 0
    elif change.kind == NODE:
        ours = stat.S_ISCHR(status.st_mode) and status.st_rdev == change.device
    else:
        ours = stat.S_ISLNK(status.st_mode) and os.readlink(name, dir_fd=parent_fd) == change.target
    if ours:
        os.unlink(name, dir_fd=parent_fd)
        if change.was:
            os.symlink(change.was, name, dir_fd=parent_fd)


def to_json(change: Change) -> dict[str, object]:
    """Return the form that the journal keeps; members that say nothing are left out."""
    return {name: value for name, value in change.__dict__.items() if value}
