"""Granting GPUs to a container, and taking them back: the story, with its effects.

Every container that gets a GPU has a lease, by whatever words it asked. A lease lives as long as its container's
process, not longer and not shorter: whoever comes next drops the leases of the dead first.
"""

from __future__ import annotations

import time

from oci_gpu_hook import log, state
from oci_gpu_hook.allocation import audit, choice, names, turn
from oci_gpu_hook.allocation.holders import Processes, same
from oci_gpu_hook.allocation.leases import Book, Lease
from oci_gpu_hook.allocation.store import Store, stamp_of
from oci_gpu_hook.errors import AllocationError, HookError, quoted, reason
from oci_gpu_hook.request.model import Request
from oci_gpu_hook.state import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from oci_gpu_hook.allocation.leases import Waiter
    from oci_gpu_hook.allocation.model import Granted
    from oci_gpu_hook.config import Config
    from oci_gpu_hook.container import Container
    from oci_gpu_hook.inventory.model import Inventory

POLL: Final = 0.05  # seconds between looks at whether the record was replaced
LOOK_AGAIN: Final = 1.0  # seconds between looks at who died without a word


def needs_details(request: Request, inventory: Inventory | None = None) -> bool:
    """Tell whether choosing needs what only NVML knows: memory, NVLinks, MIG devices.

    With the inventory at hand it also sees GPUs in MIG mode, whose MIG devices are part of `all`.
    """
    if request.count is not None:
        return bool(request.devices) or request.memory > 0 or request.count > 1
    if any(names.of_mig(name) for name in request.devices):
        return True
    if inventory is None or inventory.detailed or not any(gpu.mig_enabled for gpu in inventory.gpus):
        return False
    return any(name.lower() == "all" for name in request.devices)


def grant(request: Request, inventory: Inventory, container: Container, config: Config) -> tuple[Granted, ...]:
    """Return the devices that the container gets, and record its lease. Granted twice, it gets the same again.

    With container.pid 0 the lease is the calling process's until the container's own is known: so a runtime can
    grant before there is a container. Blocks for up to `request.wait` seconds.

    Raises InvalidInput for a device that does not exist, AllocationError for what cannot be granted.
    """
    if request.count is None and not request.devices:
        return ()
    request = _under_policy(request, config)
    try:
        return _recorded(request, inventory, container, config)
    except HookError as error:
        audit.refused(container.id, request, error)
        raise


def preview(request: Request, inventory: Inventory, config: Config) -> tuple[Granted, ...]:
    """Return what `grant` would choose now, and record nothing. Raises as `grant` does, without waiting."""
    if request.count is None and not request.devices:
        return ()
    book = _readable(config)
    return turn.choose_in_turn(_under_policy(request, config), inventory, book.leases, book.queue)


def current(config: Config) -> Book:
    """Return the record as it is, without the dead and without changing it. Raises AllocationError if unreadable."""
    try:
        processes = Processes()
        with Store(config.state_dir, processes) as store:
            book = store.read()
    except FileNotFoundError:  # nothing was ever granted here
        return Book()
    except OSError as error:
        raise _unusable(config, reason(error)) from None
    audit.made_anew(store.troubles)
    return _living(book, processes)


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
        holder = processes.holder(pid)
        if lease.container != container_id:
            return False
        return processes.lives(lease.holder) is False or (holder is not None and same(lease.holder, holder))

    return bool(_drop(failed, config, "start failed"))


def reconcile(config: Config) -> tuple[Lease, ...]:
    """Drop the leases of the dead and return them. Raises AllocationError."""
    return _drop(lambda lease, processes: processes.lives(lease.holder) is False, config, "holder is gone")


def _under_policy(request: Request, config: Config) -> Request:
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
        why = reason(error) if isinstance(error, OSError) else error.why
        if request.exclusive or request.count is not None:
            raise _unusable(config, why) from None
        log.warning("lease not recorded", container=container.id, directory=config.state_dir, reason=why)
        # What is readable still binds: an exclusive holder keeps its GPU even on a host whose disk is full.
        return choice.choose(request, inventory, _readable(config).leases)


def _readable(config: Config) -> Book:
    """Return what can be read of the record, which may be nothing."""
    try:
        return current(config)
    except AllocationError as error:
        log.warning("lease record unreadable", directory=config.state_dir, reason=error.why)
        return Book()


def _in_turn(claim: turn.Claim, inventory: Inventory, config: Config, processes: Processes) -> tuple[Granted, ...]:
    """Grant, if need be after a wait in the queue. Raises Busy when time is up, OSError when the record fails."""
    give_up = time.monotonic() + claim.request.wait
    place: Waiter | None = None
    while True:
        ended = processes.lives(claim.holder) is False
        late = ended or time.monotonic() >= give_up
        with _opened(config.state_dir, processes) as store:
            store.lock()
            found = store.read()
            book = _living(found, processes)
            outcome, after = _served(book, claim, inventory, place)
            if isinstance(outcome, choice.Busy):
                place, after = _waiting(book, claim, processes, place, late=late)
            if after != found:
                store.write(after)
            stamp = store.stamp()
        audit.made_anew(store.troubles)
        audit.released(_without(found.leases, book.leases), "holder is gone")
        if not isinstance(outcome, choice.Busy):
            audit.granted(_without(after.leases, book.leases))
            return outcome
        if ended:
            raise AllocationError(
                f"container {quoted(claim.container)}", "ended while it waited for GPUs", "start it anew"
            )
        if late:
            raise outcome
        _sleep(config.state_dir, stamp, give_up)


def _served(
    book: Book, claim: turn.Claim, inventory: Inventory, place: Waiter | None
) -> tuple[tuple[Granted, ...] | choice.Busy, Book]:
    try:
        return turn.serve(book, claim, inventory, _now(), place)
    except choice.Busy as busy:
        return busy, book


def _waiting(
    book: Book, claim: turn.Claim, processes: Processes, place: Waiter | None, *, late: bool
) -> tuple[Waiter | None, Book]:
    """Return the place in the queue and the record with it, or without it when time is up."""
    if late:
        return None, turn.leave(book, place) if place else book
    if place:
        return place, turn.keep_place(book, place)
    hook = processes.holder(0)
    return turn.enqueue(book, claim, hook, _now()) if hook else (None, book)


def _sleep(directory: str, stamp: tuple[int, int], give_up: float) -> None:
    """Sleep until the record is replaced, a holder may have died without a word, or time is up."""
    until = min(time.monotonic() + LOOK_AGAIN, give_up)
    while (left := until - time.monotonic()) > 0 and stamp_of(directory) == stamp:
        time.sleep(min(POLL, left))


def _opened(directory: str, processes: Processes) -> Store:
    try:
        return Store(directory, processes)
    except FileNotFoundError:
        return Store(state.directory(directory), processes)


def _drop(ended: Callable[[Lease, Processes], bool], config: Config, why: str) -> tuple[Lease, ...]:
    """Drop the leases that have `ended`, and return them. Raises AllocationError."""
    try:
        processes = Processes()
        with Store(config.state_dir, processes) as store:
            store.lock()
            book = store.read()
            dropped = tuple(lease for lease in book.leases if ended(lease, processes))
            if dropped:
                store.write(turn.with_changes(book, leases=_without(book.leases, dropped)))
    except FileNotFoundError:  # nothing was ever granted here
        return ()
    except OSError as error:
        raise _unusable(config, reason(error)) from None
    audit.made_anew(store.troubles)
    audit.released(dropped, why)
    return dropped


def _living(book: Book, processes: Processes) -> Book:
    """Return the record without the dead; who cannot be judged from this pid namespace counts as alive."""
    leases = tuple(lease for lease in book.leases if processes.lives(lease.holder) is not False)
    queue = tuple(waiter for waiter in book.queue if processes.lives(waiter.holder) is not False)
    return turn.with_changes(book, leases=leases, queue=queue)


def _without(leases: tuple[Lease, ...], others: tuple[Lease, ...]) -> tuple[Lease, ...]:
    kept = {id(lease) for lease in others}  # what was read once is compared as it was read: equality would be quadratic
    return tuple(lease for lease in leases if id(lease) not in kept)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _unusable(config: Config, why: str) -> AllocationError:
    what = f"cannot use the record of who holds which GPU in {quoted(config.state_dir)}"
    remedy = "make it a directory of root's on a file system with room ([state] dir of the configuration)"
    return AllocationError(what, why, remedy)
