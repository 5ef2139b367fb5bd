"""Taking back what was made for a container: on a failed start, at `poststop`, and for containers that ended without.

`poststop` does it for containers that end as they should. For those whose runtime was killed, whoever starts next does
it: the journal says who is dead.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply.journal import journal, reader
from oci_gpu_hook.apply.journal.changes import DIRECTORY, FILE, NODE
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.apply.systemd import units
from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.apply.journal.changes import Change
    from oci_gpu_hook.apply.journal.journal import Entry
    from oci_gpu_hook.base.config.model import Config


def undo(config: Config, entry: Entry, rootfs: Rootfs) -> None:
    """Take back what was made for a container whose start failed. Raises HookError, OSError."""
    with journal.Lock(config):
        heirs = reader.sharers(config, entry)
        if heirs:
            reader.hand_over(config, entry, heirs[0])
        else:
            clean(rootfs, entry)
        journal.forget(config, entry.id)


def clean(rootfs: Rootfs, entry: Entry, *, ended: bool = False) -> None:
    """Undo the changes of an entry. ended: whether the container has, and its mounts with it."""
    if entry.cached:
        from oci_gpu_hook.apply import ld_cache  # with all that knows the form of an ld cache

        ld_cache.restore(rootfs, entry.cached)
    take_back(rootfs, entry.changes, ended=ended)


def detach(container_id: str, config: Config) -> None:
    """Take back what is left of a container. Raises HookError; its entry then stays, for a later try."""
    with journal.Lock(config):
        entry = reader.read(config, container_id)
        if entry is not None:
            _take_back(entry, config)
        else:
            journal.forget(config, container_id)  # of a hook that was killed while it wrote the entry


def reconcile(config: Config) -> tuple[str, ...]:
    """Take back what is left of every container that ended without `poststop`; return their ids."""
    with journal.Lock(config):
        return take_back_dead(config)


def take_back_dead(config: Config) -> tuple[str, ...]:
    """Do what `reconcile` does, under a lock that is held already. What goes wrong is logged and fails nobody."""
    taken = []
    for container_id in journal.dead(config):
        entry = reader.read(config, container_id)
        try:
            if entry is None:
                journal.forget(config, container_id)
            else:
                _take_back(entry, config)
        except (HookError, OSError) as error:
            log.warning("remains not taken back", of=container_id, reason=str(error))
        else:
            taken.append(container_id)
    for scope in units.ended_scopes():
        try:
            _remove_drop_in(scope)
        except HookError as error:
            log.warning("drop-in not removed", unit=scope, reason=str(error))
    return tuple(taken)


def _take_back(entry: Entry, config: Config) -> None:
    heirs = reader.sharers(config, entry)
    if heirs:
        reader.hand_over(config, entry, heirs[0])
    else:
        _clean_rootfs(entry)
    if entry.unit:
        _remove_drop_in(entry.unit)
    journal.forget(config, entry.id)


def _remove_drop_in(unit: str) -> None:
    from oci_gpu_hook.apply.systemd import drop_in  # few containers have one

    drop_in.remove(unit)


def _clean_rootfs(entry: Entry) -> None:
    """Take back what was made in the rootfs, if that is still where it was."""
    try:
        fd = os.open(entry.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # the engine has taken it away already, and the hook's files with it
    with Rootfs(fd) as rootfs:
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) == entry.rootfs_identity:
            clean(rootfs, entry, ended=True)


def take_back(rootfs: Rootfs, changes: Sequence[Change], *, ended: bool = False) -> None:
    """Remove, last first, what is still there of the changes and still the hook's. Never raises for what is not.

    ended: whether the container has, and its mounts with it.
    """
    for change in reversed(changes):
        _kind, path, _target, _device, _was, passing = change
        if ended and passing:
            continue
        unsafe_directory, name = os.path.split(path)
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
    kind, _path, target, device, was, _passing = change
    if kind == DIRECTORY:
        os.rmdir(name, dir_fd=parent_fd)
        return
    try:
        status = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        if was:  # it made way, and nothing came in its place or that is taken back already
            os.symlink(was, name, dir_fd=parent_fd)
        return
    if kind == FILE:
        ours = stat.S_ISREG(status.st_mode) and status.st_size == 0
    elif kind == NODE:
        ours = stat.S_ISCHR(status.st_mode) and status.st_rdev == device
    else:
        ours = stat.S_ISLNK(status.st_mode) and os.readlink(name, dir_fd=parent_fd) == target
    if ours:
        os.unlink(name, dir_fd=parent_fd)
        if was:
            os.symlink(was, name, dir_fd=parent_fd)
