"""Writes what `poststop` must undo in a form for the front, which does that without Python (front/ended.c).

The file stands beside the container's entry, as KEY.end, and is made of it. It has fields that NUL ends: its version,
which entry it is of, what identifies the container and its rootfs, and the changes that outlive the container, the last
one first. The front checks all of that. Where there is no file, or anything in it does not hold, the front starts
Python, which goes by the entry.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply.journal.changes import DIRECTORY, FILE, LINK, NODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config

VERSION: Final = "oci-gpu-hook ending 1"
_END: Final = b"end\0"
_KINDS: Final[Mapping[str, str]] = {DIRECTORY: "d", FILE: "f", LINK: "l", NODE: "n"}
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def path_of(entry_path: str) -> str:
    """Return the path of the file for the entry at a path."""
    return entry_path.removesuffix("json") + "end"


def write(config: Config, entry: Entry, entry_path: str, lock: int) -> None:
    """Write the file for an entry that was just written; remove it where Python must clean up.

    lock: the byte of the journal's lock that stands for the rootfs.
    """
    try:
        if config.log_file or not is_ordinary(entry):
            os.unlink(path_of(entry_path))
            return
        status = os.stat(entry_path)
        # Not replaced in one step: what is cut short does not end as it must, and the front starts Python.
        fd = os.open(path_of(entry_path), _FLAGS, 0o600)
        try:
            os.write(fd, form(entry, (status.st_ino, status.st_mtime_ns), lock))
        finally:
            os.close(fd)
    except OSError:
        return


def is_ordinary(entry: Entry) -> bool:
    """Tell whether the front can undo all that was made for a container.

    It restores neither links that made way nor the image's own ld cache, ends no daemon that held the container to
    parts of GPUs, knows no kinds of changes of later versions, and needs to know the boot.
    """
    if any(entry.share) or entry.cached or entry.key or "\\" in entry.unit:
        return False
    if not (entry.boot_id and entry.rootfs_born):
        return False
    return not any(made[4] or made[0] not in _KINDS for made in entry.changes)


def form(entry: Entry, identity: tuple[int, int], lock: int) -> bytes:
    """Return the contents of the file. identity: inode and time of change of the entry's file."""
    hook_pid, hook_started = entry.hook
    device, inode = entry.rootfs_identity
    head = (VERSION, *identity, entry.boot_id, entry.pid, entry.start_time, hook_pid, hook_started, entry.id)
    place = (entry.bundle, entry.rootfs, device, inode, entry.rootfs_born, lock, entry.unit)
    fields = [str(field) for field in head + place]
    for kind, path, target, number, _was, passing in reversed(entry.changes):
        if not passing:
            fields.append(_KINDS[kind] + path)
            fields.append(str(number) if number else target)
    return os.fsencode("\0".join(fields)) + b"\0" + _END
