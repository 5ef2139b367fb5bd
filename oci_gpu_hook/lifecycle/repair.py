"""Puts back what a running container has lost of what it was given, and nothing else.

The container runs meanwhile and may be hostile, so repair uses the same code as a start, with the same descriptors and
rules. Two things bound what the container can get: its journal entry, which says what it was given, and the plan that
its bundle leads to today.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply import status, transaction
from oci_gpu_hook.apply.journal import journal, reader
from oci_gpu_hook.apply.journal.entry import key
from oci_gpu_hook.apply.operations import bind
from oci_gpu_hook.apply.operations.inspection import Finding
from oci_gpu_hook.apply.process import Process, Site, check_process, open_rootfs
from oci_gpu_hook.base import counts, log
from oci_gpu_hook.base.errors import ApplyError, DriverError, HookError, InvalidInput, quoted
from oci_gpu_hook.lifecycle import apart_from_container, asked, identity, settling, verify
from oci_gpu_hook.lifecycle.mending import Mending
from oci_gpu_hook.lifecycle.readmission import readmitted
from oci_gpu_hook.lifecycle.running import container_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config


def repair(entry: Entry, config: Config) -> tuple[Finding, ...]:
    """Put back what the container of the entry has lost, and return it. On any error nothing is changed.

    Raises HookError, also if only a restart helps because the driver or its nodes have changed. A separate process does
    the work, since a container may have a volume that never answers; what that process has done by then is undone when
    the container ends.
    """
    settled = _settled(entry, config)
    if settled and settling.entry_of(entry.id, entry.pid, config) is None:
        return settled
    try:
        mended = apart_from_container.done(entry.id, lambda: [each.__dict__ for each in _repair(entry, config)])
    except HookError:
        counts.add(config.state_dir, {f"{counts.REPAIRS} failed": 1})
        raise
    if mended:
        counts.add(config.state_dir, {f"{counts.REPAIRS} repaired": 1})
    return (*settled, *[Finding(**each) for each in mended])


def _settled(entry: Entry, config: Config) -> tuple[Finding, ...]:
    """Settle an attachment or a detachment that was interrupted, and return it. Raises HookError, OSError."""
    if not settling.settle_entry(entry, config):
        return ()
    what, why = "an attachment or a detachment", "it had been interrupted, and is settled"
    return (Finding(kind=verify.CHANGING, what=what, why=why, remedy=""),)


def _repair(entry: Entry, config: Config) -> tuple[Finding, ...]:
    os.umask(0)  # modes are set when files are created: see Directory.make_node
    check_process(entry.pid)
    entry = _as_it_is_now(entry, config)
    container = container_of(entry)
    request = asked.of_running(container, entry, config)
    admission = readmitted(container, request, config, entry.gpus)
    with journal.Lock(config, entry.rootfs_identity) as lock, Process(entry.pid) as process:
        lock.demand()  # detach has it while it waits for processes to end
        given = entry.gpus
        entry = _as_it_is_now(entry, config)
        if entry.changing or entry.gpus != given:
            raise ApplyError("cannot change the container", "another process is", "try again", "OGH1520")
        identity.check_alive(entry)
        with open_rootfs(container, process) as rootfs:
            identity.check_root(entry, rootfs)
            lost = verify.lost(entry, process, rootfs, config)
            _refuse(lost)
            lost = tuple([finding for finding in lost if finding.repairable])
            if lost:
                made = status.lost_part(admission.plan(rootfs), entry, lost)
                site = Site(container=container, process=process, rootfs=rootfs, config=config)
                for finding in lost:
                    if finding.stale:
                        bind.take_away(entry, finding.path, process, rootfs)
                mending = Mending(entry, made, site)
                confirm = lambda: identity.check_alive(entry)  # noqa: E731
                for text in transaction.carry_out(made, site, mending.nodes, mending, confirm):
                    log.tell(text)
    return lost


def _refuse(lost: Sequence[Finding]) -> None:
    """Raise DriverError for what cannot be put back. What the host has not created yet does not stop the rest."""
    for finding in lost:
        if finding.kind == verify.SICK:
            continue  # the container keeps what it has
        if not finding.repairable and not (finding.late and any(other.repairable for other in lost)):
            raise DriverError(finding.what, finding.why, finding.remedy, "OGH1909")


def _as_it_is_now(entry: Entry, config: Config) -> Entry:
    """Read the entry again under its rootfs's lock: it may have taken over another container's changes meanwhile."""
    found = reader.read(config, key(entry))
    if found is None:
        raise InvalidInput(f"container {quoted(entry.id)}", "has ended", "name a running container", "OGH1901")
    return found
