"""Tells what the containers on this host are called, and in which of them a process runs. For commands for people.

What cannot be read, because an engine is gone or this user may not, is not known: nothing here raises.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply.journal import reader
from oci_gpu_hook.apply.journal.entry import key_of
from oci_gpu_hook.base import mount_table
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.processes import lives, name_of, parent, start_time
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.lifecycle.running import container_of
from oci_gpu_hook.oci import naming, pod, runtime_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.runtime_states import Running

    Key = tuple[str, int]  # the id and the first process of a container

_NAMESPACES: Final = ("mnt", "pid")


class Resident(Record):
    """A container that runs: its id, its first process (0 if unknown), its engine and its name.

    pod: NAMESPACE/POD/CONTAINER, "" for a container of no pod.
    """

    id: str
    pid: int = 0
    engine: str = ""
    name: str = ""
    pod: str = ""

    @property
    def called(self) -> str:
        """What people call it."""
        return self.pod or self.name or naming.short(self.id)

    @property
    def beside(self) -> str:
        """In brackets its engine and its id there, as `docker ps` shows it; without what `called` says already."""
        short = naming.short(self.id)
        more = " ".join(filter(None, (self.engine, "" if self.called == short else short)))
        return f"({more})" if more else ""

    @property
    def told(self) -> str:
        """What people call it, and what stands beside that."""
        return f"{self.called} {self.beside}".rstrip()


class Census:
    """The running containers. What is found out about one is kept, for those who look again and again.

    Entries of the journal and states of runtimes are many files on a busy host, so they are read only for a lease or a
    process of which nothing is known yet.
    """

    def __init__(self, config: Config, runtime_roots: tuple[str, ...] = ()) -> None:
        """runtime_roots: where further runtimes keep their states."""
        self._config = config
        self._roots = runtime_roots
        self._known: dict[Key, Resident] = {}
        self._started: dict[Key, int] = {}
        self._scanned = False  # since the last `take`
        self._processes: dict[tuple[int, int], Resident | None] = {}
        self._cgroups: dict[bytes, list[tuple[Resident, set[bytes]]]] = {}
        self._namespaces: dict[str, Resident] = {}
        self._hosts = _namespaces("self") | _namespaces(1)

    def take(self, leases: Iterable[Lease]) -> None:
        """Look again at which containers run."""
        self._scanned = False
        self._processes = {key: found for key, found in self._processes.items() if lives(*key)}
        ended = [key for key, started in self._started.items() if not lives(key[1], started)]
        for key in ended:
            del self._known[key], self._started[key]
        if ended:
            self._cgroups, self._namespaces = {}, {}
            for resident in self._known.values():
                self._place(resident)
        for lease in leases:
            if not lease.starting and (lease.container, lease.holder.pid) not in self._known:
                self._find_holder(lease)

    def everyone(self) -> list[Resident]:
        """Return all containers that run now, whether they were given anything or not."""
        self.take(())
        self._scan()
        return list(self._known.values())

    def of_lease(self, lease: Lease) -> Resident:
        """Return the container that holds a lease."""
        found = self._known.get((lease.container, lease.holder.pid))
        found = found or Resident(id=lease.container, pid=0 if lease.starting else lease.holder.pid)
        return found.replace(pod=lease.pod or found.pod)

    def of_process(self, pid: int) -> Resident | None:
        """Return the container that a process runs in, by its cgroups, else by its namespaces; None if in none."""
        key = (pid, start_time(pid))
        if key not in self._processes:
            found = self._find(pid)
            if found is None and not self._scanned:
                self._scan()
                found = self._find(pid)
            self._processes[key] = found or _named_by_cgroup(pid)
        return self._processes[key]

    def _find_holder(self, lease: Lease) -> None:
        holder = lease.holder
        try:
            entry = reader.read(self._config, key_of(lease.container, holder.pid, holder.start_time))
        except HookError:
            entry = None
        if entry:
            self._add(of_running(entry), holder.start_time)
        elif not self._scanned:
            self._scan()
        if (lease.container, holder.pid) not in self._known:
            self._add(Resident(id=lease.container, pid=holder.pid), holder.start_time)

    def _scan(self) -> None:
        """Add the containers that runtimes know."""
        self._scanned = True
        for running in runtime_states.everything(more=self._roots):
            if (running.id, running.pid) not in self._known:
                self._add(of_running(running), running.started)

    def _add(self, resident: Resident, started: int) -> None:
        key = (resident.id, resident.pid)
        self._known[key], self._started[key] = resident, started
        self._place(resident)

    def _place(self, resident: Resident) -> None:
        own, above = _cgroups(resident.pid), _cgroups(parent(resident.pid))
        for cgroup in own - above:  # where its parent is too, so are others
            self._cgroups.setdefault(cgroup, []).append((resident, own))
        for namespace in _namespaces(resident.pid) - self._hosts:
            self._namespaces.setdefault(namespace, resident)

    def _find(self, pid: int) -> Resident | None:
        cgroups = _cgroups(pid)
        for cgroup in cgroups:
            while cgroup:
                for resident, own in self._cgroups.get(cgroup, ()):
                    if _are_within(cgroups, own):
                        return resident
                cgroup = cgroup.rpartition(b"/")[0]  # noqa: PLW2901  the cgroup above
        for namespace in _namespaces(pid):
            if namespace in self._namespaces:
                return self._namespaces[namespace]
        return None


def _named_by_cgroup(pid: int) -> Resident | None:
    """Return the container whose engine has named a cgroup of the process after it."""
    for cgroup in _cgroups(pid):
        engine, container_id = naming.of_cgroup(os.fsdecode(cgroup.partition(b":")[2]))
        if container_id:
            return Resident(id=container_id, engine=engine)
    return None


def command_of(pid: int) -> str:
    """Return the name of a process, as it gave it to itself; "" if it has ended."""
    try:
        return name_of(pid).decode("utf-8", "replace")
    except OSError:
        return ""


def of_running(running: Running | Entry) -> Resident:
    """Return a container by its entry in the journal or by its runtime's state."""
    try:
        annotations = container_of(running).annotations
    except HookError:  # its bundle is gone, or not for this user
        annotations = {}
    found = naming.of(running.id, running.bundle, running.rootfs, annotations)
    in_pod = pod.description(annotations)
    return Resident(id=running.id, pid=running.pid, engine=found.engine, name=found.name, pod=in_pod)


def _cgroups(pid: int) -> set[bytes]:
    """Return HIERARCHY:PATH of the cgroups of a process, without the roots of hierarchies, which all are in."""
    try:
        table = read_file(f"/proc/{pid}/cgroup") if pid else b""
    except OSError:
        return set()
    return {b"%s:%s" % (number, path) for number, _, path in mount_table.cgroups(table) if path not in (b"", b"/")}


def _are_within(cgroups: set[bytes], others: set[bytes]) -> bool:
    """Tell whether cgroups are in all of the others or below: in some hierarchies a container may be where all are."""
    return all(any(one == other or one.startswith(other + b"/") for one in cgroups) for other in others)


def _namespaces(pid: int | str) -> set[str]:
    """Return the mount and pid namespaces of a process, as far as they can be read."""
    found = set()
    for kind in _NAMESPACES:
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
        except OSError:
            continue
    return found
