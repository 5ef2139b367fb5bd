"""What outlives a container: what was made in its rootfs, its systemd drop-in, its journal entry. And taking it back.

`poststop` does it for containers that end as they should. For those whose runtime was killed, whoever starts next does
it: the journal says who is dead. One lock keeps that apart from a start under the same name.
"""

from __future__ import annotations

import os
import time

from oci_gpu_hook import log, state
from oci_gpu_hook.apply import cache, journal, systemd
from oci_gpu_hook.apply.changes import take_back
from oci_gpu_hook.apply.rootfs import Rootfs
from oci_gpu_hook.errors import HookError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, Self

    from oci_gpu_hook.apply.journal import Entry
    from oci_gpu_hook.config import Config

_LOCK: Final = ".lock"
_PATIENCE: Final = 5.0  # seconds; it is held for milliseconds, unless its holder is stopped


def record(config: Config, entry_of: Callable[[], Entry]) -> Entry:
    """Write and return the entry of a container that starts, once nothing dead is left under its name or any other.

    entry_of: looks at the rootfs for it, while nobody takes back what another container on the same rootfs had made.
    Raises StateError, OSError and what `entry_of` does: what goes wrong with the dead is logged and fails nobody.
    """
    state.directory(config.state_dir, journal.DIRECTORY)
    with Lock(config):
        _take_back_dead(config)
        entry = entry_of()
        journal.write(config, entry)
    return entry


def undo(config: Config, entry: Entry, rootfs: Rootfs) -> None:
    """Take back what was made for a container whose start failed. Raises HookError, OSError."""
    with Lock(config):
        heirs = journal.sharers(config, entry)
        if heirs:
            journal.hand_over(config, entry, heirs[0])
        else:
            clean(rootfs, entry)
        journal.forget(config, entry.id)


def clean(rootfs: Rootfs, entry: Entry, *, ended: bool = False) -> None:
    """Undo the changes of an entry. ended: whether the container has, and its mounts with it."""
    if entry.cached:
        cache.restore(rootfs, entry.cached)
    take_back(rootfs, entry.changes, ended=ended)


def detach(container_id: str, config: Config) -> None:
    """Take back what is left of a container. Raises HookError; its entry then stays, for a later try."""
    with Lock(config):
        entry = journal.read(config, container_id)
        if entry is not None:
            _take_back(entry, config)
        else:
            journal.forget(config, container_id)  # of a hook that was killed while it wrote the entry


def reconcile(config: Config) -> tuple[str, ...]:
    """Take back what is left of every container that ended without `poststop`; return their ids."""
    with Lock(config):
        return _take_back_dead(config)


def _take_back_dead(config: Config) -> tuple[str, ...]:
    taken = []
    for container_id in journal.dead(config):
        entry = journal.read(config, container_id)
        try:
            if entry is None:
                journal.forget(config, container_id)
            else:
                _take_back(entry, config)
        except (HookError, OSError) as error:
            log.warning("remains not taken back", of=container_id, reason=str(error))
        else:
            taken.append(container_id)
    for scope in systemd.ended_scopes():
        try:
            systemd.remove(scope)
        except HookError as error:
            log.warning("drop-in not removed", unit=scope, reason=str(error))
    return tuple(taken)


def _take_back(entry: Entry, config: Config) -> None:
    heirs = journal.sharers(config, entry)
    if heirs:
        journal.hand_over(config, entry, heirs[0])
    else:
        _clean_rootfs(entry)
    if entry.unit:
        systemd.remove(entry.unit)
    journal.forget(config, entry.id)


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


class Lock:
    """The right to take back what is dead, for a `with` block; given up on where its holder does not move."""

    def __init__(self, config: Config) -> None:
        self._path = os.path.join(config.state_dir, journal.DIRECTORY, _LOCK)
        self._fd = -1

    def __enter__(self) -> Self:
        from fcntl import LOCK_EX, LOCK_NB, flock

        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return self  # no container was ever given anything
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                flock(self._fd, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    log.warning("lock not had", path=self._path, seconds=_PATIENCE)
                    return self
                time.sleep(0.001)
            except OSError as error:
                log.warning("lock not had", path=self._path, reason=reason(error))
                return self
            else:
                return self

    def __exit__(self, *_exception: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
