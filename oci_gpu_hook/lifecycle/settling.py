"""Brings to an end what an attachment or a detachment that was interrupted has left of a running container.

The journal's entry says in `changing` which devices are being attached or detached. Both are settled in one way: these
devices go. Only where a program has one open by then, which an attachment has just brought, it stays.
"""

from __future__ import annotations

import os

from oci_gpu_hook.allocation import attached as leases
from oci_gpu_hook.apply.journal import journal, reader
from oci_gpu_hook.apply.journal.entry import DIRECTORY, key, key_of
from oci_gpu_hook.apply.process import Process, open_rootfs
from oci_gpu_hook.base import log, state
from oci_gpu_hook.base.processes import start_time
from oci_gpu_hook.lifecycle import apart_from_container, freezing, identity
from oci_gpu_hook.lifecycle.running import container_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.lifecycle.parting import Going
    from oci_gpu_hook.oci.container import Container


class Held:
    """A lock of the journal for a `with` block. Raises ApplyError if another process has it."""

    def __init__(self, config: Config, identity: tuple[int, int]) -> None:
        state.directory(config.state_dir, DIRECTORY)
        self._lock = journal.Lock(config, identity)

    def __enter__(self) -> Self:
        self._lock.__enter__()
        try:
            self._lock.demand()
        except BaseException:
            self._lock.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._lock.__exit__()


def alone(pid: int, config: Config) -> Held:
    """Return the lock under which one process at a time attaches to a container, detaches from it, or settles."""
    return Held(config, (pid, start_time(pid)))


def on_rootfs(entry: Entry, config: Config) -> Held:
    """Return the lock under which one process at a time works in a rootfs."""
    return Held(config, entry.rootfs_identity)


def entry_of(container_id: str, pid: int, config: Config) -> Entry | None:
    """Return the journal's entry of a running container, None if it was given nothing."""
    return reader.read(config, key_of(container_id, pid, start_time(pid)))


def settle(container_id: str, pid: int, config: Config) -> bool:
    """Settle what was interrupted; tell whether there was something. The caller has `alone`. Raises HookError, OSError.

    container_id, pid: of the container.
    """
    found = freezing.thaw(container_id, pid, config)
    entry = entry_of(container_id, pid, config)
    if entry and entry.changing:
        found = True
        _take(entry, config)
    left = unlisted(container_id, pid, config)
    if left:
        leases.give_back(container_id, pid, left, config)
    return found or bool(left)


def unlisted(container_id: str, pid: int, config: Config) -> tuple[str, ...]:
    """Return the UUIDs of devices of which a container has a lease by an attachment, and that its entry does not list.

    The entry is written after the lease. One that cannot be read lists all, as far as anybody knows.
    """
    uuids = leases.attached_to(container_id, pid, config)
    if not uuids:
        return ()
    entry = entry_of(container_id, pid, config)
    if entry is None and journal.is_kept(config, key_of(container_id, pid, start_time(pid))):
        return ()
    return tuple([uuid for uuid in uuids if entry is None or uuid not in entry.gpus])


def settle_entry(entry: Entry, config: Config) -> bool:
    """Do what `settle` does for the container of an entry, where there is something to settle."""
    if not entry.changing and not freezing.is_marked(entry.id, entry.pid, config):
        return False
    with alone(entry.pid, config):
        return settle(entry.id, entry.pid, config)


def withdraw(container_id: str, pid: int, uuids: Sequence[str], config: Config) -> None:
    """Undo an attachment that has failed or was interrupted. The caller has `alone`. Raises HookError, OSError."""
    entry = entry_of(container_id, pid, config)
    if entry and not entry.changing and {*uuids}.intersection(entry.gpus):
        journal.write(config, entry.replace(changing=tuple(uuids)))
    settle(container_id, pid, config)


def commit(container_id: str, pid: int, config: Config) -> None:
    """Note in the journal that an attachment is complete. Raises HookError, OSError."""
    entry = entry_of(container_id, pid, config)
    if entry:
        with on_rootfs(entry, config):
            entry = entry_of(container_id, pid, config) or entry
            journal.write(config, entry.replace(changing=()))


def complete(container: Container, going: Going, config: Config) -> None:
    """Take what is left of devices to which a container has no access any more: files, leases, the journal's entry.

    Raises HookError, OSError; then the leases are given back all the same, and a later call completes it.
    """
    from oci_gpu_hook.lifecycle import parting

    entry = entry_of(container.id, container.pid, config)
    if entry is None:
        return
    given = entry
    try:
        apart_from_container.done(container.id, lambda: _take_files(container, given, going, config))
    finally:
        leases.give_back(container.id, container.pid, going.uuids, config)
        if not parting.has_part(entry, going.uuids):
            from oci_gpu_hook.apply.mps import ending, place

            ending.end(config.state_dir, place.name_of(container.pid))
    with on_rootfs(entry, config):
        if going.everything:
            journal.forget(config, key(entry))
        else:
            entry = entry_of(container.id, container.pid, config) or entry
            journal.write(config, parting.without(entry, going.uuids, parting.gone(entry, going)))


def _take(entry: Entry, config: Config) -> None:
    """Take the devices that are being changed, unless a program has one open."""
    from oci_gpu_hook.lifecycle import busy, parting, taking  # an attachment that nothing disturbs needs none of these

    container = container_of(entry)
    going = parting.parts_of(entry.changing, entry, container, config)
    try:
        with on_rootfs(entry, config):
            taking.take(container, entry, going, config, grace=None, check=lambda: None)
    except busy.Busy:
        with on_rootfs(entry, config):
            taking.give_back(container, entry, config)
        log.warning("GPUs stay", gpus=list(going.uuids), reason="a program has one open")
        return
    complete(container, going, config)


def _take_files(container: Container, entry: Entry, going: Going, config: Config) -> None:
    """Take nodes and mounts out of the container, in a separate process."""
    from oci_gpu_hook.lifecycle import parting, rootfs_part

    os.umask(0)  # modes are set when files are made: see Directory.make_node
    with (
        Process(container.pid) as process,
        open_rootfs(container, process) as rootfs,
        on_rootfs(entry, config),
    ):
        identity.check_alive(entry)
        identity.check_root(entry, rootfs)
        entry = entry_of(container.id, container.pid, config) or entry
        rootfs_part.take(entry, parting.gone(entry, going), process, rootfs, everything=going.everything)
        if not going.everything and going.views:
            from oci_gpu_hook.apply.operations import own_places

            own_places.remove(going.views, entry, process, rootfs)
