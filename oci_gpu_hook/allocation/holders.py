"""Is the holder of a lease still there? A process is its pid, its start time and the boot it lives in.

A pid alone is not an identity: it is reused. The start time (proc(5), /proc/PID/stat, field 22, clock ticks since boot)
tells two processes of one pid apart, the boot id (/proc/sys/kernel/random/boot_id) two boots. The start time is the
same seen from every pid namespace, the pid is not, so the namespace of the number is kept with it.
"""

from __future__ import annotations

import os
import time

from oci_gpu_hook.base.processes import boot_id, parent, start_time
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

INITIAL_PID_NAMESPACE: Final = 0xEFFFFFFC  # include/linux/proc_ns.h, PROC_PID_INIT_INO
_GENERATIONS: Final = 8  # of processes between a hook and the runtime that it serves, which is mostly the nearest


class Holder(Record):
    """A process that keeps a lease alive. pid_namespace: inode of the namespace that pid counts in, 0 if unknown."""

    pid: int
    start_time: int
    boot_id: str
    pid_namespace: int


class Processes:
    """The processes of this machine, as this process's /proc numbers them."""

    def __init__(self) -> None:
        self.boot_id = boot_id()
        self.pid_namespace = _namespace_of_proc()

    def holder(self, pid: int) -> Holder | None:
        """Return the process `pid` (this one for 0) as a holder, None when there is no such live process."""
        # Where a container's own procfs is not mounted, /proc may number processes as a parent namespace does.
        pid = pid or int(os.readlink("/proc/self"))
        started = self.start_time(pid)
        if not started:
            return None
        return Holder(pid=pid, start_time=started, boot_id=self.boot_id, pid_namespace=self.pid_namespace)

    def lineage(self) -> tuple[Holder, ...]:
        """Return this process and those that it was started by, the nearest first."""
        found: list[Holder] = []
        pid = int(os.readlink("/proc/self"))
        while len(found) < _GENERATIONS and pid and (holder := self.holder(pid)):
            found.append(holder)
            pid = parent(pid)
        return tuple(found)

    def uptime(self) -> int:
        """Return for how many seconds the machine is up, which is a clock that nobody can set."""
        return int(time.clock_gettime(time.CLOCK_BOOTTIME))

    def start_time(self, pid: int) -> int:
        """Return when a process started, in clock ticks since boot, 0 when there is no such live process."""
        return start_time(pid)

    def is_taken(self, pid: int) -> bool:
        """Tell whether there is a process of that number, alive or a zombie; a tenth of the price of `start_time`."""
        return os.access(f"/proc/{pid}", os.F_OK)

    def may_live(self, holder: Holder) -> bool:
        """Tell whether a holder may live: cheaply, for `lives` alone sees that its pid is another process's by now."""
        if holder.boot_id != self.boot_id:
            return False
        return holder.pid_namespace not in (self.pid_namespace, 0) or self.is_taken(holder.pid)

    def lives(self, holder: Holder) -> bool | None:
        """Tell whether a holder lives; None when it cannot be known from this pid namespace."""
        if holder.boot_id != self.boot_id:
            return False
        if holder.pid_namespace in (self.pid_namespace, 0):
            return 0 != self.start_time(holder.pid) == holder.start_time
        if self.pid_namespace != INITIAL_PID_NAMESPACE:
            return None
        from oci_gpu_hook.allocation import pid_namespaces

        return pid_namespaces.has(
            holder.pid_namespace, holder.pid, lambda pid: self.start_time(pid) == holder.start_time
        )


def same(one: Holder, other: Holder) -> bool:
    """Tell whether two holders are one process, perhaps seen from two pid namespaces."""
    if one.pid_namespace == other.pid_namespace and one.pid != other.pid:
        return False
    return one.start_time == other.start_time and one.boot_id == other.boot_id


def _namespace_of_proc() -> int:
    """Return the inode of the pid namespace that /proc numbers processes in, 0 where that cannot be known."""
    try:
        # No namespace is above the initial one, and no process of it is in the /proc of another.
        if os.stat("/proc/self/ns/pid").st_ino == INITIAL_PID_NAMESPACE:
            return INITIAL_PID_NAMESPACE
    except OSError:
        pass
    from oci_gpu_hook.allocation import pid_namespaces

    return pid_namespaces.of_proc()
