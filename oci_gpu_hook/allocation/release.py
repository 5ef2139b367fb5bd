"""Ends leases: of a container that has ended, of a start that failed, of all dead processes."""

from __future__ import annotations

from oci_gpu_hook.allocation import audit
from oci_gpu_hook.allocation.holders import Processes, same
from oci_gpu_hook.allocation.store import Store
from oci_gpu_hook.base.errors import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.base.config.model import Config


def release(container_id: str, config: Config) -> bool:
    """Drop the leases of a container that has ended; return whether there was one. Raises AllocationError.

    An id is not enough to take a GPU from a living container. Only leases of dead processes are dropped, and the lease
    that the runtime which started this hook holds for a container that it failed to create. A driver may take seconds
    to tear a process down, and the GPU is in use until then; such a lease ends when the process does.
    """

    def ended(lease: Lease, processes: Processes) -> bool:
        if lease.container != container_id:
            return False
        if processes.lives(lease.holder) is False:
            return True
        return lease.starting and any(same(lease.holder, maker) for maker in processes.lineage())

    return bool(_drop(ended, config, "container ended"))


def release_by_hand(container_id: str, config: Config, *, pid: int = 0, force: bool = False) -> bool:
    """Drop the leases of a container on a person's order; return whether there was one. Raises AllocationError.

    pid: selects one of several containers with the id. A lease whose process is alive stays, unless forced.
    """

    def meant(lease: Lease, processes: Processes) -> bool:
        if lease.container != container_id or pid not in (0, lease.holder.pid):
            return False
        return force or processes.lives(lease.holder) is not True

    return bool(_drop(meant, config, "asked to" if force else "container ended"))


def withdraw(container_id: str, pid: int, config: Config) -> bool:
    """Drop the lease of the process `pid` (0: this one), whose start failed. Raises AllocationError.

    Unlike a forced release, this does not touch a living container with the same id under another runtime.
    """

    def failed(lease: Lease, processes: Processes) -> bool:
        if lease.container != container_id:
            return False
        holder = processes.holder(pid)
        return processes.lives(lease.holder) is False or (holder is not None and same(lease.holder, holder))

    return bool(_drop(failed, config, "start failed"))


def reconcile(config: Config) -> tuple[Lease, ...]:
    """Drop the leases of dead processes, and return them. Raises AllocationError."""
    return _drop(lambda lease, processes: processes.lives(lease.holder) is False, config, "holder is gone")


def _drop(ended: Callable[[Lease, Processes], bool], config: Config, why: str) -> tuple[Lease, ...]:
    """Drop the leases that have `ended`, and return them. Raises AllocationError."""
    dropped: list[Lease] = []
    kept: list[Lease] = []
    try:
        processes = Processes()
        with Store(config.state_dir, processes) as store:
            store.lock()
            table = store.read()
            for lease in table.leases:
                (dropped if ended(lease, processes) else kept).append(lease)
            if dropped:
                store.write(table.replace(leases=tuple(kept)))
    except FileNotFoundError:  # nothing was ever granted here
        return ()
    except OSError as error:
        from oci_gpu_hook.allocation import messages

        raise messages.unusable(config.state_dir, reason(error)) from None
    if store.troubles:
        store.tell_troubles()
    audit.released(dropped, why)
    return tuple(dropped)
