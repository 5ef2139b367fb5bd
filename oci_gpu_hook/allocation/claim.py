"""Serves one container's claim: what it gets, and the lease table afterwards. Pure.

The caller holds the lock, and has dropped the leases of dead processes.
"""

from __future__ import annotations

from oci_gpu_hook.allocation import select
from oci_gpu_hook.allocation.holders import same
from oci_gpu_hook.allocation.model import Lease, leased
from oci_gpu_hook.base.errors import AllocationError, InvalidInput, quoted
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.request.model import IN_THE_BUNDLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.allocation.model import Claim, LeaseTable, Moment, Waiter
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request


def serve(
    table: LeaseTable, claim: Claim, devices: Sequence[Device], now: Moment, place: Waiter | None = None
) -> tuple[tuple[Device, ...], LeaseTable]:
    """Return the devices of a claim, and the table with its lease at the end, or the same table if nothing changed.

    place: the container's place in the queue. Raises what `select.choose` raises; AllocationError also if a device that
    was granted before is gone.
    """
    own = None
    others = []
    beside = []  # the container's other leases, which do not stand in its own way
    request = claim.request
    injected = request.source == IN_THE_BUNDLE
    for lease in table.leases:
        if not is_own(lease, claim):
            others.append(lease)
        elif own is None and lease.injected == injected and not lease.attached and _is_of_kind(lease, request.kind):
            own = lease
        else:
            beside.append(lease)
    granted = _again(own, request, devices) if own else None
    queue = table.queue
    if granted is None:
        ticket = place.ticket if place else table.next_ticket
        ahead = tuple([waiter for waiter in queue if waiter.ticket < ticket])
        granted = choose_in_turn(request, devices, others, ahead, now.uptime)
    if place:
        queue = tuple([waiter for waiter in queue if waiter != place])
    if not granted:  # `all` on a host without GPUs
        return granted, table.replace(leases=(*others, *beside), queue=queue) if own or place else table
    lease = Lease(
        container=claim.container,
        devices=tuple([leased(device, request) for device in granted]),
        exclusive=request.exclusive or (own is not None and own.exclusive),
        holder=own.holder if own and same(own.holder, claim.holder) else claim.holder,
        since=own.since if own else now.date,
        starting=claim.starting,
        pod=claim.pod,
        counted=request.count is not None or (own is not None and own.counted),
        injected=injected,
    )
    if own and set(lease.devices) == set(own.devices):
        lease = lease.replace(devices=own.devices)
    if lease == own:
        return granted, table
    return granted, table.replace(leases=(*others, *beside, lease), queue=queue)


def choose_in_turn(
    request: Request, devices: Sequence[Device], held: Sequence[Lease], ahead: Sequence[Waiter], uptime: int
) -> tuple[Device, ...]:
    """Choose, with respect to those that wait and came first. uptime: of the machine now, in seconds.

    They do not hold up a plain request by name: it shares, as in NVIDIA's interface, and has no alternative.
    """
    if ahead and (request.count is not None or request.exclusive or request.is_share):
        from oci_gpu_hook.allocation import turns

        held = (*held, *turns.kept(ahead, request.kind, devices, held, uptime))
    return select.choose(request, devices, held)


def is_own(lease: Lease, claim: Claim) -> bool:
    """Tell whether a lease is this container's: held by its process, or by the runtime that creates it.

    The id is not enough: two runtimes with their own roots may each have a container with that id.
    """
    if lease.container != claim.container:
        return False
    if same(lease.holder, claim.holder):
        return True
    return lease.starting and any(same(lease.holder, maker) for maker in claim.makers)


def _is_of_kind(lease: Lease, kind: str) -> bool:
    """Tell whether a lease is for devices of a kind: a container has one for each kind that it asks for."""
    return any(device.kind == kind for device in lease.devices) or not lease.devices


def _again(own: Lease, request: Request, devices: Sequence[Device]) -> tuple[Device, ...] | None:
    """Return the devices of a lease, None if its container now asks for others."""
    if any(device.kind != request.kind for device in own.devices):
        return None
    if any((device.memory, device.cores) != (request.memory_limit, request.cores) for device in own.devices):
        return None
    vendor = vendors.of(request.kind)
    try:
        granted = vendor.resolve((device.uuid for device in own.devices), devices)
    except InvalidInput as error:
        what = f"container {quoted(own.container)} cannot be given its {vendor.TERMS.whole}s again"
        raise AllocationError(
            what,
            f"{error.what}, {error.why}",
            "start it again; the kernel's log may say what happened",
            "OGH1222",
        ) from None
    if request.count is not None:
        return granted if request.count == len(granted) else None
    named = vendor.resolve(request.devices, devices)
    return named if {device.uuid for device in named} == {device.uuid for device in granted} else None
