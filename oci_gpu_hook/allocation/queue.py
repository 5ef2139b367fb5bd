"""The queue of the record: who waits for GPUs, in which order, and the form of it in STATE/leases.json. Pure."""

from __future__ import annotations

from oci_gpu_hook.allocation.lease_table import HOLDER, holder_of, with_changes, wrong
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.request.model import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.allocation.claim import Claim
    from oci_gpu_hook.allocation.holders import Holder
    from oci_gpu_hook.allocation.lease_table import Book, Kinds

_WAITER: Final[Kinds] = {
    "ticket": int, "container": str, **HOLDER, "since": str, "devices": list, "memory": int, "exclusive": bool,
}  # fmt: skip


class Waiter(Record):
    """A hook that holds a container's start until the request can be granted. Lower tickets come first."""

    ticket: int
    container: str
    holder: Holder
    request: Request
    since: str


def enqueue(book: Book, claim: Claim, hook: Holder, now: str) -> tuple[Waiter, Book]:
    """Return a place at the end of the queue, kept by the waiting process `hook`, and the record with it."""
    waiter = Waiter(
        ticket=book.next_ticket, container=claim.container, holder=hook, request=_chosen_by(claim.request), since=now
    )
    return waiter, keep_place(book, waiter)


def keep_place(book: Book, waiter: Waiter) -> Book:
    """Return the record with the waiter at its place, where it lost it because the record had to be made anew."""
    if waiter in book.queue:
        return book
    queue = sorted((*book.queue, waiter), key=lambda other: other.ticket)
    return with_changes(book, queue=tuple(queue), next_ticket=max(book.next_ticket, waiter.ticket + 1))


def leave(book: Book, waiter: Waiter) -> Book:
    """Return the record without a place in the queue."""
    return with_changes(book, queue=tuple(other for other in book.queue if other != waiter))


def to_json(waiter: Waiter) -> dict[str, object]:
    """Return the form of an entry of the queue."""
    request, holder = waiter.request, waiter.holder
    return {
        "ticket": waiter.ticket,
        "container": waiter.container,
        "pid": holder.pid,
        "startTime": holder.start_time,
        "bootId": holder.boot_id,
        "pidNamespace": holder.pid_namespace,
        "since": waiter.since,
        "devices": list(request.devices),
        "count": request.count,
        "memory": request.memory,
        "exclusive": request.exclusive,
    }


def from_json(entries: list[Any], complaints: list[str]) -> tuple[Waiter, ...]:
    """Return the queue in its order; what is wrong with the entries that are left out is added to the complaints."""
    queue = []
    for entry in entries:
        trouble = _wrong_waiter(entry)
        if trouble:
            complaints.append(trouble)
        else:
            queue.append(_waiter(entry))
    return tuple(sorted(queue, key=lambda waiter: waiter.ticket))


def _wrong_waiter(entry: Any) -> str:
    trouble = wrong(entry, _WAITER)
    if trouble:
        return trouble
    if type(entry.get("count")) not in (int, type(None)):
        return f"count: expected an integer, found {quoted(entry['count'])}"
    for name in entry["devices"]:
        if type(name) is not str:
            return f"devices: {quoted(name)} is not a string"
    return ""


def _waiter(entry: Any) -> Waiter:
    request = Request(
        devices=tuple(entry["devices"]),
        count=entry.get("count"),
        memory=entry["memory"],
        exclusive=entry["exclusive"],
        driver_capabilities=(),
        source="queue",
    )
    return Waiter(
        ticket=entry["ticket"],
        container=entry["container"],
        holder=holder_of(entry),
        request=request,
        since=entry["since"],
    )


def _chosen_by(request: Request) -> Request:
    """Return the part of a request that decides about devices, as the record keeps it."""
    return Request(
        devices=request.devices,
        count=request.count,
        memory=request.memory,
        exclusive=request.exclusive,
        driver_capabilities=(),
        source="queue",
    )
