"""One container's turn at the record: what it gets, and what the record says afterwards. Pure.

The caller holds the lock and has dropped the leases of the dead.
"""

from __future__ import annotations

from oci_gpu_hook.allocation import names, select
from oci_gpu_hook.allocation.holders import Holder, same
from oci_gpu_hook.allocation.lease_table import Lease, with_changes
from oci_gpu_hook.base.errors import AllocationError, InvalidInput, quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.allocation.lease_table import Book
    from oci_gpu_hook.allocation.model import Granted
    from oci_gpu_hook.allocation.queue import Waiter
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.request.model import Request


class Claim(Record):
    """What a container asks for, and the process whose life its lease follows. starting: as in Lease.

    makers: processes that may be the runtime that makes the container, and hold a lease for it until now.
    """

    container: str
    holder: Holder
    request: Request
    starting: bool = False
    makers: tuple[Holder, ...] = ()


def serve(
    book: Book, claim: Claim, inventory: Inventory, now: str, place: Waiter | None = None
) -> tuple[tuple[Granted, ...], Book]:
    """Return the devices of a claim and the record with its lease as the last, or the very same where nothing changed.

    place: where the container waits in the queue. Raises what `choice.choose` raises, AllocationError also when a
    device granted before is gone.
    """
    own = None
    others = []
    for lease in book.leases:
        if own is None and _is_own(lease, claim):
            own = lease
        else:
            others.append(lease)
    request = claim.request
    granted = _again(own, request, inventory) if own else None
    queue = book.queue
    if granted is None:
        ticket = place.ticket if place else book.next_ticket
        ahead = tuple([waiter for waiter in queue if waiter.ticket < ticket])
        granted = choose_in_turn(request, inventory, others, ahead)
    if place:
        queue = tuple([waiter for waiter in queue if waiter != place])
    if not granted:  # `all` of no GPU
        return granted, with_changes(book, leases=tuple(others), queue=queue) if own or place else book
    lease = Lease(
        container=claim.container,
        devices=tuple([select.leased(device) for device in granted]),
        exclusive=request.exclusive or (own is not None and own.exclusive),
        holder=own.holder if own and same(own.holder, claim.holder) else claim.holder,
        since=own.since if own else now,
        starting=claim.starting,
    )
    if own and set(lease.devices) == set(own.devices):
        lease = Lease(**{**lease.__dict__, "devices": own.devices})
    if lease == own:
        return granted, book
    return granted, with_changes(book, leases=(*others, lease), queue=queue)


def choose_in_turn(
    request: Request, inventory: Inventory, held: Sequence[Lease], ahead: Sequence[Waiter]
) -> tuple[Granted, ...]:
    """Choose, with respect for those who wait and came first.

    A plain request by name is not held up by them: it shares, as NVIDIA's interface has it, and has no other choice.
    """
    if ahead and (request.count is not None or request.exclusive):
        from oci_gpu_hook.allocation import by_count

        held = (*held, *by_count.reserved(ahead, inventory, held))
    return select.choose(request, inventory, held)


def _is_own(lease: Lease, claim: Claim) -> bool:
    """Tell whether a lease is this container's: of its process, or of the runtime that was about to make it.

    The id alone does not say so: two runtimes with roots of their own may each have a container of one name.
    """
    if lease.container != claim.container:
        return False
    if same(lease.holder, claim.holder):
        return True
    return lease.starting and any(same(lease.holder, maker) for maker in claim.makers)


def _again(own: Lease, request: Request, inventory: Inventory) -> tuple[Granted, ...] | None:
    """Return the devices of a lease, None when its container now asks for others."""
    try:
        granted = names.resolve((device.uuid for device in own.devices), inventory)
    except InvalidInput as error:
        what = f"container {quoted(own.container)} cannot be given its GPUs again"
        raise AllocationError(
            what, f"{error.what}, {error.why}", "start it anew; the kernel log tells of the GPU"
        ) from None
    if request.count is not None:
        return granted if request.count == len(granted) else None
    named = names.resolve(request.devices, inventory)
    return named if {device.uuid for device in named} == {device.uuid for device in granted} else None
