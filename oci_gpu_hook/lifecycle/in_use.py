"""Finds the processes of a container that have a device open, and ends them."""

from __future__ import annotations

import os
import time

from oci_gpu_hook.base import mount_table
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.processes import lives, name_of, start_time
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.edits import numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.devices.edits import Numbers as Node

_TERM: Final = 15  # signal(7)
_KILL: Final = 9
KILL_SECONDS: Final = 10.0  # that a killed process may take to end: the driver tears down what it had
_LOOK_AGAIN: Final = 0.05  # seconds


class User(Record):
    """A process that has a device open: its number on the host, its name, and when it started."""

    pid: int
    name: str
    started: int


def users(container_pid: int, nodes: Collection[Node]) -> tuple[User, ...]:
    """Return the processes of a container that have one of the nodes open or mapped.

    container_pid: of its first process. A process is of the container if it is in its cgroups, or in cgroups below
    them, or has its mount or pid namespace: it may have left either. A descriptor that was passed to a process outside
    is not found.
    """
    wanted = frozenset(nodes)
    return tuple([user for user in _processes(container_pid) if _has_open(user.pid, wanted)])


def end(found: Sequence[User], grace: float) -> bool:
    """End processes: ask them to, and kill those that are still there after `grace` seconds. Tell whether all ended."""
    for signal, patience in ((_TERM, grace), (_KILL, KILL_SECONDS)):
        for user in found:
            _send(user, signal)
        give_up = time.monotonic() + patience
        while living := [user for user in found if lives(user.pid, user.started)]:
            if time.monotonic() > give_up:
                break
            time.sleep(_LOOK_AGAIN)
        if not living:
            return True
    return False


def _send(user: User, signal: int) -> None:
    """Send a signal to a process, and to no other that has its number since."""
    import signal as signals

    try:
        fd = os.pidfd_open(user.pid)
    except OSError:
        return
    try:
        if lives(user.pid, user.started):
            signals.pidfd_send_signal(fd, signal)
    except OSError:
        return
    finally:
        os.close(fd)


def _processes(container_pid: int) -> Iterator[User]:
    own = _cgroups(os.getpid())
    # A cgroup that this process is in as well is not the container's alone, and its processes are not to be ended.
    cgroups = {number: path for number, path in _cgroups(container_pid).items() if not _is_within(own, {number: path})}
    namespaces = _namespaces(container_pid)
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        pid = int(name)
        started = start_time(pid)
        if started and (_is_within(_cgroups(pid), cgroups) or namespaces & _namespaces(pid)):
            try:
                yield User(pid=pid, name=name_of(pid).decode("utf-8", "replace"), started=started)
            except OSError:
                continue


def _cgroups(pid: int) -> dict[bytes, bytes]:
    try:
        return {number: path for number, _, path in mount_table.cgroups(read_file(f"/proc/{pid}/cgroup"))}
    except OSError:
        return {}


def _is_within(cgroups: dict[bytes, bytes], others: dict[bytes, bytes]) -> bool:
    """Tell whether a process is in one of the cgroups of another or below; the root of a hierarchy does not count."""
    for number, path in others.items():
        found = cgroups.get(number, b"")
        if path not in (b"", b"/") and (found == path or found.startswith(path + b"/")):
            return True
    return False


def _namespaces(pid: int) -> set[str]:
    """Return the mount and pid namespaces of a process but for this process's own."""
    found = set()
    for kind in ("mnt", "pid"):
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            found.discard(os.readlink(f"/proc/self/ns/{kind}"))
        except OSError:
            continue
    return found


def _has_open(pid: int, devices: Collection[Node]) -> bool:
    for directory in (f"/proc/{pid}/fd", f"/proc/{pid}/map_files"):
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            try:
                found = os.stat(f"{directory}/{name}")
            except OSError:
                continue
            if numbers_of(found) in devices:
                return True
    return False
