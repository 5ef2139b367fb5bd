"""Containers: leases and journal entries of dead ones, and what living ones have lost."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.doctor.model import NOTE, OK, WARNING, Finding, Host
from oci_gpu_hook.allocation.holders import Processes
from oci_gpu_hook.allocation.store import RECORD, Store
from oci_gpu_hook.apply.journal import journal, reader
from oci_gpu_hook.apply.journal.entry import id_in
from oci_gpu_hook.apply.systemd import units
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.lifecycle import verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

_NAME: Final = "remains"
_LISTED: Final = 4


def check(host: Host) -> Iterator[Finding]:
    """Check the lease table, and the journal entry of every container."""
    directory = host.config.state_dir
    if not os.path.isdir(directory):
        return
    yield from _record(host)
    dead = journal.dead(host.config)
    if dead:
        what = f"{_containers([id_in(key) for key in dead])} ended without poststop"
        why = "what was made for them is still in their root directories; the next start removes it"
        yield Finding(check=_NAME, severity=NOTE, what=what, why=why, remedy="oci-gpu repair --all does it now")
    scopes = units.ended_scopes(host.root)
    if scopes:
        what = f"drop-ins are left of {len(scopes)} ended systemd scopes"
        yield Finding(check=_NAME, severity=NOTE, what=what, remedy="oci-gpu repair --all removes them")
    living = [entry for entry in reader.read_all(host.config) if entry.is_alive()]
    for entry in living:
        for lost in verify.verify(entry, host.config):
            what = f"container {quoted(entry.id)}: {lost.what}"
            yield Finding(check=_NAME, severity=WARNING, what=what, why=lost.why, remedy=lost.remedy)
    yield Finding(check=_NAME, severity=OK, what=f"{len(living)} running containers were given GPUs")


def _record(host: Host) -> Iterator[Finding]:
    directory = host.config.state_dir
    processes = Processes()
    with Store(directory, processes) as store:
        leases = store.read().leases
    dead = [lease.container for lease in leases if processes.lives(lease.holder) is False]
    if dead:
        what = f"{_containers(dead)} {'has a lease' if len(dead) == 1 else 'have leases'} and no process any more"
        why = "they hold nothing: the next request removes them"
        yield Finding(check=_NAME, severity=NOTE, what=what, why=why, remedy="there is nothing to do")
    unknown = [lease.container for lease in leases if processes.lives(lease.holder) is None]
    if unknown:
        what = f"it is not visible from here whether {_containers(unknown)} are still running"
        why = "they run in pid namespaces that this process does not see; their GPUs count as held"
        yield Finding(check=_NAME, severity=NOTE, what=what, why=why, remedy="run this in the host's pid namespace")
    damaged = sorted(name for name in os.listdir(directory) if name.startswith(f"{RECORD}.corrupt-"))
    if damaged:
        what = f"{directory} has {len(damaged)} damaged records of leases, the last {damaged[-1]}"
        why = "each was rebuilt when it was found, and containers without a readable entry lost their leases"
        remedy = "find out who wrote there; then remove them"
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=remedy)


def _containers(ids: Sequence[str]) -> str:
    named = ", ".join(map(quoted, ids[:_LISTED]))
    more = f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else ""
    return f"container{'s' * (len(ids) != 1)} {named}{more}"
