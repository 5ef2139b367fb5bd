"""Tells whether the holder of a lease is alive. A holder is identified by pid, start time and boot.

A pid alone does not identify a process, because it is reused. The start time (proc(5), /proc/PID/stat, field 22, clock
ticks since boot) distinguishes processes with one pid, the boot id (/proc/sys/kernel/random/boot_id) distinguishes
boots. The start time is the same in every pid namespace, but the pid is not, so its namespace is recorded too.
"""

from __future__ import annotations

import os
import time

from oci_gpu_hook.base.processes import acting, boot_id, parent, start_time
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

INITIAL_PID_NAMESPACE: Final = 0xEFFFFFFC  # include/linux/proc_ns.h, PROC_PID_INIT_INO
_GENERATIONS: Final = 8  # processes between a hook and its runtime, which is usually the parent


class Holder(Record):
    """A process that keeps a lease alive. pid_namespace: inode of the namespace of the pid, 0 if unknown."""

    pid: int
    start_time: int
    boot_id: str
    pid_namespace: int


class Processes:
    """The processes of this machine, by the pids in this process's /proc."""

    def __init__(self) -> None:
        self.boot_id = boot_id()
        self.pid_namespace = _namespace_of_proc()

    def holder(self, pid: int) -> Holder | None:
        """Return the process `pid` (0: this one) as a holder, None if it is not alive."""
        # If a container's own procfs is not mounted, /proc may have the pids of a parent namespace.
        pid = pid or acting()
        started = self.start_time(pid)
        if not started:
            return None
        return Holder(pid=pid, start_time=started, boot_id=self.boot_id, pid_namespace=self.pid_namespace)

    def lineage(self) -> Iterator[Holder]:
        """Yield this process, or the one that it acts for, and its ancestors, the nearest first."""
        pid = acting()
        for _ in range(_GENERATIONS):
            holder = self.holder(pid) if pid else None
            if holder is None:
                return
            yield holder
            pid = parent(pid)

    def uptime(self) -> int:
        """Return the seconds since boot, a clock that nobody can set."""
        return int(time.clock_gettime(time.CLOCK_BOOTTIME))

    def start_time(self, pid: int) -> int:
        """Return when a process started, in clock ticks since boot; 0 if it is not alive."""
        return start_time(pid)

    def is_taken(self, pid: int) -> bool:
        """Tell whether a process, alive or a zombie, has that pid; costs a tenth of `start_time`."""
        return os.access(f"/proc/{pid}", os.F_OK)

    def may_live(self, holder: Holder) -> bool:
        """Tell cheaply whether a holder may be alive; only `lives` notices that its pid was reused."""
        if holder.boot_id != self.boot_id:
            return False
        return holder.pid_namespace not in (self.pid_namespace, 0) or self.is_taken(holder.pid)

    def lives(self, holder: Holder) -> bool | None:
        """Tell whether a holder is alive; None if that cannot be known from this pid namespace."""
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
    """Tell whether two holders are the same process, perhaps seen from two pid namespaces."""
    if one.pid_namespace == other.pid_namespace and one.pid != other.pid:
        return False
    return one.start_time == other.start_time and one.boot_id == other.boot_id


def _namespace_of_proc() -> int:
    """Return the inode of the pid namespace of the pids in /proc, 0 if it cannot be known."""
    try:
        # No namespace is above the initial one, and its processes are in no other namespace's /proc.
        if os.stat("/proc/self/ns/pid").st_ino == INITIAL_PID_NAMESPACE:
            return INITIAL_PID_NAMESPACE
    except OSError:
        pass
    from oci_gpu_hook.allocation import pid_namespaces

    return pid_namespaces.of_proc()
