"""Undoes what was made for a container: after a failed start, at `poststop`, and later if `poststop` did not run.

`poststop` cleans up after containers that end normally. If a container's runtime was killed, the next start of any
container does it, since the journal shows which containers are dead.
"""

from __future__ import annotations

import os
import time

from oci_gpu_hook.apply.journal import entry as entries
from oci_gpu_hook.apply.journal import journal, reader
from oci_gpu_hook.apply.operations import undo as undoing
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.apply.systemd import units
from oci_gpu_hook.base import inherited, limits, log, state, syscalls
from oci_gpu_hook.base.cpython import signals
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.files import replace_file
from oci_gpu_hook.base.locks import wait_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from oci_gpu_hook.apply.journal.changes import Change
    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config


_GIVEN_UP: Final = 600.0  # seconds for which no start retries what did not answer


def undo(config: Config, entry: Entry, rootfs: Rootfs) -> None:
    """Undo what was made for a container whose start failed. Raises HookError, OSError."""
    with journal.Lock(config, entry.rootfs_identity):
        heirs = reader.sharers(config, entry)
        if heirs:
            _hand_over(config, entry, heirs[0])
        else:
            clean(rootfs, entry)
        journal.forget(config, entries.key(entry))


def clean(rootfs: Rootfs, entry: Entry, *, ended: bool = False) -> None:
    """Undo the changes in an entry. ended: whether the container, and so its mounts, are gone."""
    if entry.cached:
        from oci_gpu_hook.apply.operations import ld_cache  # imports the code for ld caches

        ld_cache.restore(rootfs, entry.cached)
    take_back(rootfs, entry.changes, ended=ended)


def detach(container_id: str, bundle: str, config: Config) -> None:
    """Undo what is left of a container. If this raises HookError, its entry stays, for a later attempt.

    `poststop` knows only an id and a bundle, and another runtime may run a container with the same ones. So a container
    that is alive, or being created, keeps what it has. If its process ends a moment later, the next start cleans up.
    """
    for entry in reader.of_container(config, container_id, bundle):
        if not entry.is_active():
            with journal.Lock(config, entry.rootfs_identity):
                _take_back(entries.key(entry), config)
    _sweep(config)
    _end_daemons(config)


def reconcile(config: Config) -> tuple[str, ...]:
    """Undo what is left of every container that ended without `poststop`; return their ids."""
    return take_back_dead(config, thoroughly=True)


def take_back_dead(config: Config, *, thoroughly: bool = False) -> tuple[str, ...]:
    """Do what `reconcile` does. Errors are only logged.

    The root directory of a dead container may be on a file system that never answers. So a child process works on it,
    for as long as a start may be delayed by other containers, and leaves a mark so that no start retries it too soon.
    thoroughly: wait longer, and retry what is marked.
    """
    dead = {}
    for key in journal.dead(config):
        dead[key] = entries.id_in(key)
        try:
            entry = reader.read(config, key)
            if entry is None:
                journal.forget(config, key)
                continue
            dead[key] = entry.id
            if entry.unit:
                _remove_drop_in_of(entry, config)
        except (HookError, OSError) as error:
            log.warning("leftovers not removed", of=dead.pop(key), reason=str(error))
    for scope in units.ended_scopes():
        try:
            _remove_drop_in(scope)
        except HookError as error:
            log.warning("drop-in not removed", unit=scope, reason=str(error))
    _sweep(config)
    _end_daemons(config)
    wanted = [key for key in dead if journal.is_kept(config, key) and (thoroughly or not _is_given_up(config, key))]
    patience = limits.REMAINS_BY_HAND_SECONDS if thoroughly else limits.REMAINS_SECONDS
    if wanted and not _in_a_child(lambda: _take_back_all(wanted, config), patience):
        log.warning(
            "leftovers not removed",
            of=[dead[key] for key in wanted],
            reason="takes too long, or no process can be started",
        )
    return tuple(name for key, name in dead.items() if not journal.is_kept(config, key))


def _take_back_all(keys: Sequence[str], config: Config) -> None:
    for key in keys:
        mark = journal.tried_path(config, key)
        try:
            entry = reader.read(config, key)
            if entry is None:
                continue
            replace_file(mark, b"")
            with journal.Lock(config, entry.rootfs_identity, patience=0) as lock:
                if lock.is_held:  # otherwise somebody is working in the rootfs
                    _take_back(key, config)
            journal.drop(mark)
        except (HookError, OSError) as error:
            log.warning("leftovers not removed", of=entries.id_in(key), reason=str(error))


def _is_given_up(config: Config, key: str) -> bool:
    try:
        since = os.stat(journal.tried_path(config, key)).st_mtime
    except OSError:
        return False
    return 0 <= time.time() - since < _GIVEN_UP


def _in_a_child(work: Callable[[], None], patience: float) -> bool:
    """Work in a child process, which is killed after `patience` seconds; tell whether it was started and finished.

    The child closes this process's files, because an engine waits until its pipes are closed, and a process that waits
    for a file system sometimes cannot be killed.
    """
    try:
        child = os.fork()
    except OSError:
        return False
    if child == 0:
        try:
            inherited.close_all_but()
            for _ in range(3):
                os.open("/dev/null", os.O_RDWR)
            signals.die_after(int(patience) + 1)  # in case this process is killed before it can kill the child
            work()
        finally:
            os._exit(0)
    if wait_until(lambda: os.waitpid(child, os.WNOHANG)[0] != 0, patience):
        return True
    os.kill(child, syscalls.SIGKILL)
    return False


def _take_back(key: str, config: Config) -> None:
    """Undo what is left of a dead container, under its rootfs's lock, unless somebody else has done so."""
    entry = reader.read(config, key)
    if entry is None or entry.is_active():
        return
    heirs = reader.sharers(config, entry)
    if heirs:
        _hand_over(config, entry, heirs[0])
    else:
        _clean_rootfs(entry)
    if entry.unit:
        _remove_drop_in_of(entry, config)
    journal.forget(config, key)


def _hand_over(config: Config, entry: Entry, heir: Entry) -> None:
    """Transfer the changes of an entry to another one, whose cleanup then undoes them."""
    added = [made for made in entry.changes if made not in heir.changes]
    cached = [path for path in entry.cached if path not in heir.cached]
    journal.write(config, heir.replace(changes=(*added, *heir.changes), cached=(*cached, *heir.cached)))


def _sweep(config: Config) -> None:
    """Remove files that hooks left which were killed before they wrote an entry."""
    directory = state.existing(config.state_dir, entries.DIRECTORY)
    for name in os.listdir(directory) if directory else ():
        if journal.is_left_over(config, name):
            journal.drop(os.path.join(config.state_dir, entries.DIRECTORY, name))


def _end_daemons(config: Config) -> None:
    """End the daemons that held containers to their parts of GPUs and have outlived them."""
    if state.has_any(config.state_dir, "mps"):
        from oci_gpu_hook.apply.mps import ending  # few hosts have one

        ending.sweep(config.state_dir)


def _remove_drop_in_of(entry: Entry, config: Config) -> None:
    """Remove the drop-in of a dead container, unless a living one has a unit of the same name."""
    others = [other for other in reader.read_all(config) if other.unit == entry.unit]
    if not any(other.is_active() for other in others):
        _remove_drop_in(entry.unit)


def _remove_drop_in(unit: str) -> None:
    from oci_gpu_hook.apply.systemd import drop_in  # few containers have one

    drop_in.remove(unit)


def _clean_rootfs(entry: Entry) -> None:
    """Undo the changes to the rootfs, if it still exists at its path."""
    try:
        fd = os.open(entry.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # the engine has removed it already, with the hook's files in it
    with Rootfs(fd) as rootfs:
        status = os.fstat(fd)
        if entry.is_rootfs((status.st_dev, status.st_ino), syscalls.birth(fd)):
            clean(rootfs, entry, ended=True)


def take_back(rootfs: Rootfs, changes: Sequence[Change], *, ended: bool = False) -> None:
    """Undo changes, last first, where what is there is still the hook's. Changes that cannot be undone are skipped.

    ended: whether the container, and so its mounts, are gone.
    """
    for change in reversed(changes):
        _kind, path, _target, _device, _was, passing = change
        if ended and passing:
            continue
        unsafe_directory, name = os.path.split(path)
        try:
            parent_fd = rootfs.directory(unsafe_directory)
        except (HookError, ValueError):  # ValueError: a damaged entry with a path that no file can have
            continue
        if parent_fd is None:
            continue
        try:
            mount = syscalls.mount_id(parent_fd)
            if not rootfs.is_of_host(mount):
                undoing.take_back(change, name, parent_fd, mount)
        except (OSError, ValueError):
            continue  # gone, replaced, in use or read-only: not the hook's any more, or out of reach
        finally:
            os.close(parent_fd)
