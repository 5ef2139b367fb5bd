"""Grants devices to a container and records the grant: all steps in order, with their effects.

Every container that gets a GPU has a lease, however it asked. A lease lasts exactly as long as its container's process:
each request first drops the leases of dead processes. `release` ends a lease earlier.
"""

from __future__ import annotations

import time

from oci_gpu_hook.allocation import audit, claim, select
from oci_gpu_hook.allocation.holders import Processes, same
from oci_gpu_hook.allocation.model import Busy, Claim, Moment
from oci_gpu_hook.allocation.store import Store
from oci_gpu_hook.base import log, state
from oci_gpu_hook.base.errors import AllocationError, HookError, StateError, quoted, reason
from oci_gpu_hook.oci import pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oci_gpu_hook.allocation.model import Lease, LeaseTable
    from oci_gpu_hook.allocation.wait import Wait
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.model import Request


def allocate(  # noqa: PLR0913
    request: Request,
    devices: Sequence[Device],
    container: Container,
    config: Config,
    *,
    began: float = 0.0,
    freed: Callable[[Config], bool] | None = None,
) -> tuple[Device, ...]:
    """Return the devices that the container gets, and record its lease. A second call returns the same devices.

    With container.pid 0 the lease belongs to the calling process until the container's process is known, so that a
    runtime can grant devices before it creates the container. Blocks for up to `request.wait` seconds, counted from
    `began` on (time.monotonic(); 0.0: from now).

    freed: called with the configuration where the devices are held, outside the record's lock, before the wait and
    before the refusal: gives back what nobody uses, and tells whether there was something. Then the request is tried
    once more.

    Raises InvalidInput for a device that does not exist, AllocationError for what cannot be granted.
    """
    if request.count is None and not request.devices:
        return ()
    request = select.under_policy(request, config)
    try:
        return _recorded(request, devices, container, config, began or time.monotonic(), freed)
    except HookError as error:
        asked = {"gpus": list(request.devices), "count": request.count, "exclusive": request.exclusive}
        log.warning("refused", **{"container": container.id, **asked, "reason": str(error)})
        raise


def _recorded(  # noqa: PLR0913, PLR0917
    request: Request,
    devices: Sequence[Device],
    container: Container,
    config: Config,
    began: float,
    freed: Callable[[Config], bool] | None,
) -> tuple[Device, ...]:
    processes = Processes()
    holder = processes.holder(container.pid)
    if holder is None:
        raise AllocationError(
            f"container {quoted(container.id)}", "its process is gone", "see the engine's log", "OGH1307"
        )
    asked = Claim(
        container=container.id,
        holder=holder,
        request=request,
        starting=not container.pid,
        pod=pod.description(container.annotations),
    )
    try:
        return _in_turn(asked, devices, config, processes, began, freed)
    except (OSError, StateError) as error:
        from oci_gpu_hook.allocation import messages, query

        why = reason(error) if isinstance(error, OSError) else error.why
        if request.exclusive or request.count is not None or request.is_share:
            raise messages.unusable(config.state_dir, why) from None
        log.warning("lease not recorded", container=container.id, directory=config.state_dir, reason=why)
        # The readable leases still count: an exclusive holder keeps its GPU even on a host whose disk is full.
        return select.choose(request, devices, query.readable(config).leases)


def _in_turn(  # noqa: PLR0913, PLR0917
    asked: Claim,
    devices: Sequence[Device],
    config: Config,
    processes: Processes,
    began: float,
    freed: Callable[[Config], bool] | None,
) -> tuple[Device, ...]:
    """Grant, if necessary after a wait in the queue. Raises Busy when the time is up, OSError if the record fails."""
    wait = _wait(asked, config, processes, began) if asked.request.wait else None
    while True:
        if wait:
            wait.begin_look()
        now = Moment(date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), uptime=processes.uptime())
        granted: tuple[Device, ...] = ()
        refusal = None
        with _opened(config.state_dir, processes) as store:
            store.lock()
            found = store.read()
            table = store.living(found, asked.request)
            asked = _with_makers(asked, table, processes)
            try:
                granted, after = claim.serve(table, asked, devices, now, wait.place if wait else None)
            except Busy as busy:
                refusal = busy
                after = wait.queued(table, now) if wait else table
            if after is not found:
                store.write(after)
            stamp = store.stamp() if wait else (0, 0)
        if store.troubles:
            store.tell_troubles()
        if table is not found:
            audit.released(_dropped(found, table), "holder is gone")
        if refusal is None:
            _tell(after if granted and after is not table else None, wait)
            return granted
        if freed and (wait is None or wait.is_at_an_end) and freed(config):
            continue
        if wait is None:
            raise refusal
        wait.pause(stamp, refusal)


def _tell(changed: LeaseTable | None, wait: Wait | None) -> None:
    """Log a new lease, and count a wait for it. changed: the table with the lease, None where there is none."""
    if changed:
        audit.granted(changed.leases[-1])  # `serve` puts the new lease last
    if wait:
        wait.count()


def _with_makers(asked: Claim, table: LeaseTable, processes: Processes) -> Claim:
    """Return the claim with the runtime that started this hook, if it may hold the lease for its container."""
    if asked.starting:
        return asked
    held = [lease.holder for lease in table.leases if lease.starting and lease.container == asked.container]
    if held:
        for maker in processes.lineage():
            if True in [same(holder, maker) for holder in held]:
                return asked.replace(makers=(maker,))
    return asked


def _wait(asked: Claim, config: Config, processes: Processes, began: float) -> Wait:
    from oci_gpu_hook.allocation.wait import Wait

    return Wait(asked, processes, config, began)


def _opened(directory: str, processes: Processes) -> Store:
    try:
        return Store(directory, processes)
    except FileNotFoundError:
        return Store(state.directory(directory), processes)


def _dropped(found: LeaseTable, table: LeaseTable) -> list[Lease]:
    kept = {id(lease) for lease in table.leases}  # kept leases are not copied; equality would be quadratic
    return [lease for lease in found.leases if id(lease) not in kept]
