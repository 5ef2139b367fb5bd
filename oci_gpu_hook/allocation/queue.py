"""The queue of the lease table: who waits, in which order, and the JSON form in STATE/leases.json. Pure."""

from __future__ import annotations

from oci_gpu_hook.allocation.json_members import HOLDER, holder_of, holder_to_json, wrong
from oci_gpu_hook.allocation.model import Waiter
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.request.model import DEFAULT_KIND, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.allocation.holders import Holder
    from oci_gpu_hook.allocation.json_members import Kinds
    from oci_gpu_hook.allocation.model import Claim, LeaseTable, Moment

_WAITER: Final[Kinds] = {
    "ticket": int, "container": str, **HOLDER, "since": str, "devices": list, "memory": int, "exclusive": bool,
}  # fmt: skip
_WAITER_OF_NOW: Final[Kinds] = {**_WAITER, "uptime": int}  # release 0.1 wrote none


def enqueue(table: LeaseTable, claim: Claim, hook: Holder, now: Moment) -> tuple[Waiter, LeaseTable]:
    """Return a place at the end of the queue for the waiting process `hook`, and the table with it."""
    waiter = Waiter(
        ticket=table.next_ticket,
        container=claim.container,
        holder=hook,
        request=_chosen_by(claim.request),
        since=now.date,
        uptime=now.uptime,
    )
    return waiter, keep_place(table, waiter)


def keep_place(table: LeaseTable, waiter: Waiter) -> LeaseTable:
    """Return the table with the waiter at its place; it loses the place if the record has to be rebuilt."""
    if waiter in table.queue:
        return table
    queue = sorted((*table.queue, waiter), key=lambda other: other.ticket)
    return table.replace(queue=tuple(queue), next_ticket=max(table.next_ticket, waiter.ticket + 1))


def leave(table: LeaseTable, waiter: Waiter) -> LeaseTable:
    """Return the table without that place in the queue."""
    return table.replace(queue=tuple(other for other in table.queue if other != waiter))


def to_json(waiter: Waiter) -> dict[str, object]:
    """Return the JSON form of an entry of the queue."""
    request = waiter.request
    document: dict[str, object] = {
        "ticket": waiter.ticket,
        "container": waiter.container,
        **holder_to_json(waiter.holder),
        "since": waiter.since,
        "uptime": waiter.uptime,
        "devices": list(request.devices),
        "count": request.count,
        "memory": request.memory,
        "exclusive": request.exclusive,
    }
    if request.kind != DEFAULT_KIND:
        document["kind"] = request.kind
    if request.is_share:
        document |= {"memoryLimit": request.memory_limit, "cores": request.cores, "spread": request.spread}
    return document


def from_json(entries: list[Any], complaints: list[str]) -> tuple[Waiter, ...]:
    """Return the queue in order. Entries that are wrong are left out, and added to the complaints."""
    queue = []
    for entry in entries:
        trouble = _wrong_waiter(entry)
        if trouble:
            complaints.append(trouble)
        else:
            queue.append(_waiter(entry))
    return tuple(sorted(queue, key=lambda waiter: waiter.ticket))


def _wrong_waiter(entry: Any) -> str:
    trouble = wrong(entry, _WAITER_OF_NOW if type(entry) is dict and "uptime" in entry else _WAITER)
    if trouble:
        return trouble
    if type(entry.get("count")) not in (int, type(None)):
        return f"count: expected an integer, found {quoted(entry['count'])}"
    if type(entry.get("kind", "")) is not str:
        return f"kind: expected a string, found {quoted(entry['kind'])}"
    for name, kind in (("memoryLimit", int), ("cores", int), ("spread", bool)):
        if type(entry.get(name, kind())) is not kind or not 0 <= entry.get(name, 0) < 1 << 63:
            return f"{name}: {quoted(entry[name])} is not the part of a device"
    for name in entry["devices"]:
        if type(name) is not str:
            return f"devices: {quoted(name)} is not a string"
    return ""


def _waiter(entry: Any) -> Waiter:
    request = Request(
        kind=entry.get("kind", DEFAULT_KIND),
        devices=tuple(entry["devices"]),
        count=entry.get("count"),
        memory=entry["memory"],
        exclusive=entry["exclusive"],
        memory_limit=entry.get("memoryLimit", 0),
        cores=entry.get("cores", 0),
        spread=entry.get("spread", False),
        driver_capabilities=(),
        source="queue",
    )
    return Waiter(
        ticket=entry["ticket"],
        container=entry["container"],
        holder=holder_of(entry),
        request=request,
        since=entry["since"],
        uptime=entry.get("uptime", 0),
    )


def _chosen_by(request: Request) -> Request:
    """Return the part of a request that selects devices, in the form of the record."""
    return Request(
        kind=request.kind,
        devices=request.devices,
        count=request.count,
        memory=request.memory,
        exclusive=request.exclusive,
        memory_limit=request.memory_limit,
        cores=request.cores,
        spread=request.spread,
        driver_capabilities=(),
        source="queue",
    )
