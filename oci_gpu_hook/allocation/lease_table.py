"""The record of who holds which GPU, and of who waits: its values, and their form in STATE/leases.json.

Pure: `store` has the file, `waiters` the queue. The form is in schemas/lease-record.schema.json; docs/allocation.md
explains it.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeAlias

    from oci_gpu_hook.allocation.queue import Waiter

    Kinds: TypeAlias = dict[str, type]

VERSION: Final = 1
_LONGEST: Final = 4096  # PATH_MAX: nothing that is named here is longer
_NAMES: Final = {dict: "an object", list: "an array", str: "a string", int: "an integer", bool: "true or false"}

# What the members of each JSON object of the record are.
_BOOK: Final[Kinds] = {"version": int, "nextTicket": int, "leases": list, "queue": list}
_DEVICE: Final[Kinds] = {"gpu": str, "mig": str}
HOLDER: Final[Kinds] = {"pid": int, "startTime": int, "bootId": str, "pidNamespace": int}
_LEASE: Final[Kinds] = {
    "container": str, "devices": list, "exclusive": bool, **HOLDER, "since": str, "starting": bool,
}  # fmt: skip


class Device(Record):
    """A leased device by UUID: a whole GPU, or the MIG device `mig` of it; gpu is "" where its parent is unknown."""

    gpu: str
    mig: str = ""

    @property
    def uuid(self) -> str:
        """The UUID that NVIDIA_VISIBLE_DEVICES takes for this device."""
        return self.mig or self.gpu


class Lease(Record):
    """What a container holds. since: RFC 3339, UTC.

    starting: the holder is the runtime that makes the container, whose own process is still to come.
    """

    container: str
    devices: tuple[Device, ...]
    exclusive: bool
    holder: Holder
    since: str
    starting: bool = False


class Book(Record):
    """The whole record. next_ticket only grows, so that a place in the queue is never given twice."""

    leases: tuple[Lease, ...] = ()
    queue: tuple[Waiter, ...] = ()
    next_ticket: int = 1


def with_changes(book: Book, **changes: object) -> Book:
    """Return the record with some of its fields replaced."""
    return Book(**{**book.__dict__, **changes})


def to_json(book: Book) -> dict[str, object]:
    """Return the form that STATE/leases.json has."""
    queue: list[dict[str, object]] = []
    if book.queue:
        from oci_gpu_hook.allocation import queue as waiters

        queue = [waiters.to_json(waiter) for waiter in book.queue]
    leases = [_lease_json(lease) for lease in book.leases]
    return {"version": VERSION, "nextTicket": book.next_ticket, "leases": leases, "queue": queue}


def _lease_json(lease: Lease) -> dict[str, object]:
    holder = lease.holder
    return {
        "container": lease.container,
        "devices": [{"gpu": device.gpu, "mig": device.mig} for device in lease.devices],
        "exclusive": lease.exclusive,
        "pid": holder.pid,
        "startTime": holder.start_time,
        "bootId": holder.boot_id,
        "pidNamespace": holder.pid_namespace,
        "since": lease.since,
        "starting": lease.starting,
    }


def from_json(document: Any) -> tuple[Book, list[str]]:
    """Return the record, and what is wrong with the document: entries that cannot be read are left out."""
    complaints = []
    trouble = wrong(document, _BOOK)
    if trouble:
        complaints.append(trouble)
        entries, waiting, next_ticket = _list(document, "leases"), _list(document, "queue"), 1
    else:
        entries, waiting, next_ticket = document["leases"], document["queue"], document["nextTicket"]
        if document["version"] != VERSION:
            complaints.append(f"version: {document['version']} is not {VERSION}")
    leases = []
    for entry in entries:
        trouble = _wrong_lease(entry)
        if trouble:
            complaints.append(trouble)
        else:
            leases.append(_lease(entry))
    queue: tuple[Waiter, ...] = ()
    if waiting:
        from oci_gpu_hook.allocation import queue as waiters

        queue = waiters.from_json(waiting, complaints)
        next_ticket = max(next_ticket, queue[-1].ticket + 1) if queue else next_ticket
    return Book(leases=tuple(leases), queue=queue, next_ticket=next_ticket), complaints


def holder_of(entry: Any) -> Holder:
    """Return the holder in an entry with nothing wrong."""
    return Holder.of(
        {
            "pid": entry["pid"],
            "start_time": entry["startTime"],
            "boot_id": entry["bootId"],
            "pid_namespace": entry["pidNamespace"],
        }
    )


def wrong(entry: Any, kinds: Kinds) -> str:
    """Say what is wrong with a JSON object whose members are to be of these kinds, "" for nothing."""
    if type(entry) is not dict:
        return f"expected a JSON object, found {quoted(entry)}"
    for name, kind in kinds.items():
        value = entry.get(name)
        if type(value) is not kind:
            if value is None:
                return f"{name} is missing in {quoted(entry)}"
            return f"{name}: expected {_NAMES[kind]}, found {quoted(value)}"
        if kind is int and not 0 <= entry[name] < 1 << 63:
            return f"{name}: {quoted(value)} is out of range"
        if kind is str and len(entry[name]) > _LONGEST:
            return f"{name}: {quoted(value)} is too long"
    return ""


def _wrong_lease(entry: Any) -> str:
    trouble = wrong(entry, _LEASE)
    if trouble:
        return trouble
    for device in entry["devices"]:
        trouble = wrong(device, _DEVICE)
        if trouble:
            return trouble
        if not (device["gpu"] or device["mig"]):
            return "a device has neither gpu nor mig"
    return ""


def _lease(entry: Any) -> Lease:
    return Lease.of(
        {
            "container": entry["container"],
            "devices": tuple([Device.of({"gpu": device["gpu"], "mig": device["mig"]}) for device in entry["devices"]]),
            "exclusive": entry["exclusive"],
            "holder": holder_of(entry),
            "since": entry["since"],
            "starting": entry["starting"],
        }
    )


def _list(document: Any, name: str) -> list[Any]:
    found = document.get(name) if type(document) is dict else None
    return found if type(found) is list else []
