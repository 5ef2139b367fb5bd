"""Finds the processes of a container that have a device open, and ends them."""

from __future__ import annotations

import os
import time

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import AllocationError
from oci_gpu_hook.base.processes import lives, name_of, start_time
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.lifecycle import descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.devices.edits import Numbers
    from oci_gpu_hook.lifecycle.members import Members

_TERM: Final = 15  # signal(7)
_KILL: Final = 9
KILL_SECONDS: Final = 10.0  # that a killed process may take to end: the driver tears down what it had
_LOOK_AGAIN: Final = 0.05  # seconds


class User(Record):
    """A process that has a device open: its number on the host, its name, and when it started.

    doubt: why it may be none of the container's, or may not have the device open; "" if both are certain.
    """

    pid: int
    name: str
    started: int
    doubt: str = ""


def users(members: Members, nodes: Collection[Numbers], pids: Iterable[int] | None = None) -> tuple[User, ...]:
    """Return the processes of a container that have one of the nodes open or mapped, and those that may have.

    pids: those that are looked at, None for all.

    A descriptor that was passed to a process outside the container is not found. Raises AllocationError where there are
    so many processes that looking at them takes too long.
    """
    return tuple(_users(members, frozenset(nodes), pids))


def end(found: Sequence[User], grace: float, check: Callable[[], None] = lambda: None) -> bool:
    """End processes: ask them to, and kill those that are still there after `grace` seconds. Tell whether all ended.

    check: called meanwhile; what it raises is raised.
    """
    for signal, patience in ((_TERM, grace), (_KILL, KILL_SECONDS)):
        for user in found:
            _send(user, signal)
        give_up = time.monotonic() + patience
        while living := [user for user in found if lives(user.pid, user.started)]:
            if time.monotonic() > give_up:
                break
            time.sleep(_LOOK_AGAIN)
            check()
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


def not_looked_at(pid: int, why: str) -> AllocationError:
    """Return the error for a container, named by its first process, whose processes cannot be looked at for certain."""
    remedy = (
        "see whether it has unusually many, some that wait for a file system or a page of memory (state D in `ps`), or "
        "who thaws or moves them, and end them or the container"
    )
    return AllocationError(f"the processes of the container of process {pid}", why, remedy, "OGH1311")


def _too_many(pid: int) -> AllocationError:
    why = f"could not be looked at within {limits.PROCESSES_SECONDS:g} s, for descriptors of its devices"
    return not_looked_at(pid, why)


def _users(members: Members, devices: Collection[Numbers], pids: Iterable[int] | None) -> Iterator[User]:
    give_up = time.monotonic() + limits.PROCESSES_SECONDS
    alone = members.is_alone()
    within = members.within() if alone else frozenset()
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if pids is None else pids:
        if time.monotonic() > give_up:
            raise _too_many(members.pid)
        doubt = members.doubt(pid, alone=alone, within=within)
        if doubt is None:
            continue
        started = start_time(pid)
        try:
            if not descriptors.has_open(pid, devices, give_up):
                doubt = "" if doubt else descriptors.hidden(pid, devices, give_up)
                if not doubt:
                    continue
        except TimeoutError:
            raise _too_many(members.pid) from None
        try:
            user = User(pid=pid, name=name_of(pid).decode("utf-8", "replace"), started=started, doubt=doubt)
        except OSError:
            continue
        if started:
            yield user
