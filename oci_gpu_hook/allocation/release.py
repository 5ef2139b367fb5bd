"""Taking GPUs back: from a container that has ended, from a start that failed, from all that are dead."""

from __future__ import annotations

from oci_gpu_hook.allocation import audit
from oci_gpu_hook.allocation.holders import Processes, same
from oci_gpu_hook.allocation.lease_table import with_changes
from oci_gpu_hook.allocation.store import Store
from oci_gpu_hook.base.errors import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_gpu_hook.allocation.lease_table import Lease
    from oci_gpu_hook.base.config.model import Config


def release(container_id: str, config: Config, *, force: bool = False) -> bool:
    """Drop the leases of a container that is no more; True when there was one. Raises AllocationError.

    A lease whose process lives stays, unless forced: a driver may take seconds to tear a process down, and until
    then the GPU is in use. Such a lease goes when the process does.
    """

    def ended(lease: Lease, processes: Processes) -> bool:
        if lease.container != container_id:
            return False
        return force or lease.starting or processes.lives(lease.holder) is not True

    return bool(_drop(ended, config, "asked to" if force else "container ended"))


def withdraw(container_id: str, pid: int, config: Config) -> bool:
    """Take back what was granted to the process `pid` (this one for 0), whose start failed. Raises AllocationError.

    Unlike a forced `release` it leaves alone a living container of the same name, which another runtime may have.
    """

    def failed(lease: Lease, processes: Processes) -> bool:
        if lease.container != container_id:
            return False
        holder = processes.holder(pid)
        return processes.lives(lease.holder) is False or (holder is not None and same(lease.holder, holder))

    return bool(_drop(failed, config, "start failed"))


def reconcile(config: Config) -> tuple[Lease, ...]:
    """Drop the leases of the dead and return them. Raises AllocationError."""
    return _drop(lambda lease, processes: processes.lives(lease.holder) is False, config, "holder is gone")


def _drop(ended: Callable[[Lease, Processes], bool], config: Config, why: str) -> tuple[Lease, ...]:
    """Drop the leases that have `ended`, and return them. Raises AllocationError."""
    dropped: list[Lease] = []
    kept: list[Lease] = []
    try:
        processes = Processes()
        with Store(config.state_dir, processes) as store:
            store.lock()
            book = store.read()
            for lease in book.leases:
                (dropped if ended(lease, processes) else kept).append(lease)
            if dropped:
                store.write(with_changes(book, leases=tuple(kept)))
    except FileNotFoundError:  # nothing was ever granted here
        return ()
    except OSError as error:
        from oci_gpu_hook.allocation import messages

        raise messages.unusable(config.state_dir, reason(error)) from None
    if store.troubles:
        store.tell_troubles()
    audit.released(dropped, why)
    return tuple(dropped)
