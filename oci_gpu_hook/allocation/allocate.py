"""Granting GPUs to a container: the story, with its effects.

Every container that gets a GPU has a lease, by whatever words it asked. A lease lives as long as its container's
process, not longer and not shorter: whoever comes next drops the leases of the dead first. `release` takes them back.
"""

from __future__ import annotations

import time

from oci_gpu_hook.allocation import audit, select
from oci_gpu_hook.allocation import claim as turn
from oci_gpu_hook.allocation.holders import Processes
from oci_gpu_hook.allocation.store import Store
from oci_gpu_hook.base import log, state
from oci_gpu_hook.base.errors import AllocationError, HookError, StateError, quoted, reason
from oci_gpu_hook.request.model import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.allocation.lease_table import Book, Lease
    from oci_gpu_hook.allocation.model import Granted
    from oci_gpu_hook.allocation.wait import Wait
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.oci.container import Container


def grant(request: Request, inventory: Inventory, container: Container, config: Config) -> tuple[Granted, ...]:
    """Return the devices that the container gets, and record its lease. Granted twice, it gets the same again.

    With container.pid 0 the lease is the calling process's until the container's own is known: so a runtime can
    grant before there is a container. Blocks for up to `request.wait` seconds.

    Raises InvalidInput for a device that does not exist, AllocationError for what cannot be granted.
    """
    if request.count is None and not request.devices:
        return ()
    request = under_policy(request, config)
    try:
        return _recorded(request, inventory, container, config)
    except HookError as error:
        asked = {"gpus": list(request.devices), "count": request.count, "exclusive": request.exclusive}
        log.warning("refused", **{"container": container.id, **asked, "reason": str(error)})
        raise


def under_policy(request: Request, config: Config) -> Request:
    """Return the request as the configuration lets it stand."""
    if config.allocation_policy == "exclusive" and not request.exclusive:
        return Request(**{**request.__dict__, "exclusive": True})
    return request


def _recorded(request: Request, inventory: Inventory, container: Container, config: Config) -> tuple[Granted, ...]:
    processes = Processes()
    holder = processes.holder(container.pid)
    if holder is None:
        raise AllocationError(f"container {quoted(container.id)}", "its process is gone", "see the engine's log")
    claim = turn.Claim(container=container.id, holder=holder, request=request, starting=not container.pid)
    try:
        return _in_turn(claim, inventory, config, processes)
    except (OSError, StateError) as error:
        from oci_gpu_hook.allocation import messages, query

        why = reason(error) if isinstance(error, OSError) else error.why
        if request.exclusive or request.count is not None:
            raise messages.unusable(config.state_dir, why) from None
        log.warning("lease not recorded", container=container.id, directory=config.state_dir, reason=why)
        # What is readable still binds: an exclusive holder keeps its GPU even on a host whose disk is full.
        return select.choose(request, inventory, query.readable(config).leases)


def _in_turn(claim: turn.Claim, inventory: Inventory, config: Config, processes: Processes) -> tuple[Granted, ...]:
    """Grant, if need be after a wait in the queue. Raises Busy when time is up, OSError when the record fails."""
    wait = _wait(claim, config, processes) if claim.request.wait else None
    while True:
        if wait:
            wait.begin_look()
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        granted: tuple[Granted, ...] = ()
        refusal = None
        with _opened(config.state_dir, processes) as store:
            store.lock()
            found = store.read()
            book = store.living(found, claim.request)
            try:
                granted, after = turn.serve(book, claim, inventory, now, wait.place if wait else None)
            except select.Busy as busy:
                refusal = busy
                after = wait.queued(book, now) if wait else book
            if after is not found:
                store.write(after)
            stamp = store.stamp() if wait else (0, 0)
        if store.troubles:
            store.tell_troubles()
        if book is not found:
            audit.released(_dropped(found, book), "holder is gone")
        if refusal is None:
            if granted and after is not book:
                audit.granted(after.leases[-1])  # where `serve` puts it
            return granted
        if wait is None:
            raise refusal
        wait.pause(stamp, refusal)


def _wait(claim: turn.Claim, config: Config, processes: Processes) -> Wait:
    from oci_gpu_hook.allocation.wait import Wait

    return Wait(claim, processes, config.state_dir)


def _opened(directory: str, processes: Processes) -> Store:
    try:
        return Store(directory, processes)
    except FileNotFoundError:
        return Store(state.directory(directory), processes)


def _dropped(found: Book, book: Book) -> list[Lease]:
    kept = {id(lease) for lease in book.leases}  # those kept are as they were read: equality would be quadratic
    return [lease for lease in found.leases if id(lease) not in kept]
