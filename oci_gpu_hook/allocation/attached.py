"""Leases of devices that a container gets, or loses, while it runs: added to what it holds, or taken from it.

A start asks for all that a container gets, and asking twice is asking once. An attachment adds: what the container
holds already is not chosen again, and stays.
"""

from __future__ import annotations

import time

from oci_gpu_hook.allocation import audit, claim, messages, query, select
from oci_gpu_hook.allocation.holders import Processes, same
from oci_gpu_hook.allocation.model import Claim, Lease, Moment, leased
from oci_gpu_hook.allocation.store import Store
from oci_gpu_hook.base import state
from oci_gpu_hook.base.errors import AllocationError, InvalidInput, StateError, quoted, reason
from oci_gpu_hook.oci import pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from oci_gpu_hook.allocation.model import LeaseTable
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.model import Request


def grant(request: Request, devices: Sequence[Device], container: Container, config: Config) -> tuple[Device, ...]:
    """Return the devices that a running container gets in addition, and record them.

    Raises InvalidInput for a device that does not exist or that the container has, AllocationError for what cannot be
    granted or recorded.
    """
    request = select.under_policy(request, config)
    granted: tuple[Device, ...] = ()

    def serve(table: LeaseTable, store: Store) -> LeaseTable:
        nonlocal granted
        processes = store.processes
        holder = processes.holder(container.pid)
        if holder is None:
            raise AllocationError(
                f"container {quoted(container.id)}", "has ended", "name a running container", "OGH1901"
            )
        described = pod.description(container.annotations)
        asked = Claim(container=container.id, holder=holder, request=request, pod=described)
        now = Moment(date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), uptime=processes.uptime())
        granted, after = add(store.living(table, request), asked, devices, now)
        return after

    _change(config, serve)
    return granted


def add(
    table: LeaseTable, asked: Claim, devices: Sequence[Device], now: Moment
) -> tuple[tuple[Device, ...], LeaseTable]:
    """Return the devices that a claim adds to what its container holds, and the table with them. Pure.

    Raises as `grant` does.
    """
    own = [lease for lease in table.leases if claim.is_own(lease, asked)]
    others = [lease for lease in table.leases if lease not in own]
    has = {device.uuid for lease in own for device in lease.devices}
    request = asked.request
    free = devices if request.count is None else [device for device in devices if device.uuid not in has]
    try:
        granted = claim.choose_in_turn(request, free, others, table.queue, now.uptime)
    except AllocationError as error:
        if request.count is None or not has:
            raise
        raise messages.beside(error, len(has), len(free)) from None
    for device in granted:
        if device.uuid in has:
            what = f"{device.label} ({device.uuid})"
            raise InvalidInput(what, f"container {quoted(asked.container)} has it already", "name another", "OGH1908")
    extended = next((lease for lease in own if lease.attached and lease.exclusive == request.exclusive), None)
    lease = Lease(
        container=asked.container,
        devices=(*(extended.devices if extended else ()), *[leased(device, request) for device in granted]),
        exclusive=request.exclusive,
        holder=asked.holder,
        since=extended.since if extended else now.date,
        pod=asked.pod,
        counted=request.count is not None or (extended is not None and extended.counted),
        attached=True,
    )
    kept = [each for each in own if each is not extended]
    return granted, table.replace(leases=(*others, *kept, lease)) if granted else table


def attached_to(container_id: str, pid: int, config: Config) -> tuple[str, ...]:
    """Return the UUIDs of devices that a running container got in addition, by the leases that can be read."""
    holder = Processes().holder(pid)
    found = [each for each in query.readable(config).leases if each.attached and each.container == container_id]
    own = [lease for lease in found if holder is not None and same(lease.holder, holder)]
    return tuple([device.uuid for lease in own for device in lease.devices])


def give_back(container_id: str, pid: int, uuids: Collection[str], config: Config) -> None:
    """Take devices from the leases of a running container, or after a failure. Raises AllocationError."""

    def take(table: LeaseTable, store: Store) -> LeaseTable:
        holder = store.processes.holder(pid)
        leases = []
        for lease in table.leases:
            if lease.container != container_id or holder is None or not same(lease.holder, holder):
                leases.append(lease)
                continue
            kept = tuple(device for device in lease.devices if device.uuid not in uuids)
            if kept:
                leases.append(lease.replace(devices=kept))
        return table.replace(leases=tuple(leases))

    _change(config, take)


def _change(config: Config, change: Callable[[LeaseTable, Store], LeaseTable]) -> None:
    """Change the table under its lock, and tell the log. Raises AllocationError, and what `change` raises."""
    try:
        with Store(state.directory(config.state_dir), Processes()) as store:
            store.lock()
            found = store.read()
            after = change(found, store)
            if after is not found:
                store.write(after)
    except (OSError, StateError) as error:
        why = reason(error) if isinstance(error, OSError) else error.why
        raise messages.unusable(config.state_dir, why) from None
    if store.troubles:
        store.tell_troubles()
    before = {id(lease) for lease in found.leases}
    for lease in after.leases:
        if id(lease) not in before:
            audit.granted(lease)
