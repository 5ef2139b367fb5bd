"""The record of who holds which GPU, and of who waits: its values, and their form in STATE/leases.json.

Pure: `store` has the file. The form is in schemas/lease-record.schema.json; docs/allocation.md explains it.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.document import member
from oci_gpu_hook.errors import InvalidInput, quoted
from oci_gpu_hook.record import Record
from oci_gpu_hook.request.model import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

VERSION: Final = 1
_WHAT: Final = "lease record"
_REMEDY: Final = "nothing to do: the record is made anew from the living containers"


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


class Waiter(Record):
    """A hook that holds a container's start until the request can be granted. Lower tickets come first."""

    ticket: int
    container: str
    holder: Holder
    request: Request
    since: str


class Book(Record):
    """The whole record. next_ticket only grows, so that a place in the queue is never given twice."""

    leases: tuple[Lease, ...] = ()
    queue: tuple[Waiter, ...] = ()
    next_ticket: int = 1


def to_json(book: Book) -> dict[str, object]:
    """Return the form that STATE/leases.json has."""
    return {
        "version": VERSION,
        "nextTicket": book.next_ticket,
        "leases": [_lease_json(lease) for lease in book.leases],
        "queue": [_waiter_json(waiter) for waiter in book.queue],
    }


def from_json(document: object) -> tuple[Book, list[str]]:
    """Return the record, and what is wrong with the document: entries that cannot be read are left out."""
    complaints: list[str] = []
    try:
        version = _required(document, "version", int)
        if version != VERSION:
            complaints.append(f"version: {version} is not {VERSION}")
        next_ticket = _count(document, "nextTicket")
        entries = _required(document, "leases", list)
        waiting = _required(document, "queue", list)
    except InvalidInput as error:
        complaints.append(error.why)
        next_ticket = 1
        entries = _list(document, "leases")
        waiting = _list(document, "queue")
    leases = [lease for entry in entries if (lease := _read(_lease, entry, complaints))]
    queue = [waiter for entry in waiting if (waiter := _read(_waiter, entry, complaints))]
    queue.sort(key=lambda waiter: waiter.ticket)
    next_ticket = max([next_ticket, *(waiter.ticket + 1 for waiter in queue)])
    return Book(leases=tuple(leases), queue=tuple(queue), next_ticket=next_ticket), complaints


def from_journal(entry: object, boot_id: str, pid_namespace: int) -> Lease:
    """Return the lease that a container's journal STATE/containers/*.json attests. Raises InvalidInput.

    A journal may lack what only this record knows: then it is taken for one of this boot and namespace, and the
    start time decides whether its container lives.
    """
    uuids = _texts(entry, "gpus")
    return Lease(
        container=_text(entry, "id"),
        devices=tuple(Device(gpu="", mig=uuid) if uuid[:4].upper() == "MIG-" else Device(gpu=uuid) for uuid in uuids),
        exclusive=member(entry, "exclusive", bool, _WHAT, False),
        holder=Holder(
            pid=_count(entry, "pid"),
            start_time=_count(entry, "startTime"),
            boot_id=member(entry, "bootId", str, _WHAT, boot_id),
            pid_namespace=member(entry, "pidNamespace", int, _WHAT, pid_namespace),
        ),
        since=member(entry, "since", str, _WHAT, ""),
    )


def _lease_json(lease: Lease) -> dict[str, object]:
    return {
        "container": lease.container,
        "devices": [{"gpu": device.gpu, "mig": device.mig} for device in lease.devices],
        "exclusive": lease.exclusive,
        **_holder_json(lease.holder),
        "since": lease.since,
        "starting": lease.starting,
    }


def _waiter_json(waiter: Waiter) -> dict[str, object]:
    request = waiter.request
    return {
        "ticket": waiter.ticket,
        "container": waiter.container,
        **_holder_json(waiter.holder),
        "since": waiter.since,
        "devices": list(request.devices),
        "count": request.count,
        "memory": request.memory,
        "exclusive": request.exclusive,
    }


def _holder_json(holder: Holder) -> dict[str, object]:
    return {
        "pid": holder.pid,
        "startTime": holder.start_time,
        "bootId": holder.boot_id,
        "pidNamespace": holder.pid_namespace,
    }


def _read(parse: Any, entry: object, complaints: list[str]) -> Any:
    try:
        return parse(entry)
    except InvalidInput as error:
        complaints.append(error.why)
        return None


def _lease(entry: object) -> Lease:
    return Lease(
        container=_text(entry, "container"),
        devices=tuple(_device(device) for device in _required(entry, "devices", list)),
        exclusive=_required(entry, "exclusive", bool),
        holder=_holder(entry),
        since=_text(entry, "since"),
        starting=_required(entry, "starting", bool),
    )


def _waiter(entry: object) -> Waiter:
    count = member(entry, "count", int, _WHAT)
    return Waiter(
        ticket=_count(entry, "ticket"),
        container=_text(entry, "container"),
        holder=_holder(entry),
        since=_text(entry, "since"),
        request=Request(
            devices=_texts(entry, "devices"),
            count=count,
            memory=_count(entry, "memory"),
            exclusive=_required(entry, "exclusive", bool),
            driver_capabilities=(),
            source="queue",
        ),
    )


def _holder(entry: object) -> Holder:
    return Holder(
        pid=_count(entry, "pid"),
        start_time=_count(entry, "startTime"),
        boot_id=_text(entry, "bootId"),
        pid_namespace=_count(entry, "pidNamespace"),
    )


def _device(entry: object) -> Device:
    device = Device(gpu=_text(entry, "gpu"), mig=_text(entry, "mig"))
    if not device.uuid:
        raise InvalidInput(_WHAT, "a device has neither gpu nor mig", _REMEDY)
    return device


def _required(entry: object, name: str, kind: type) -> Any:
    found = member(entry, name, kind, _WHAT)
    if found is None:
        raise InvalidInput(_WHAT, f"{name} is missing in {quoted(entry)}", _REMEDY)
    return found


def _count(entry: object, name: str) -> int:
    number: int = _required(entry, name, int)
    if not 0 <= number < 1 << 63:
        raise InvalidInput(_WHAT, f"{name}: {quoted(number)} is out of range", _REMEDY)
    return number


def _text(entry: object, name: str) -> str:
    text: str = _required(entry, name, str)
    if len(text) > 4096:  # PATH_MAX: nothing that is named here is longer
        raise InvalidInput(_WHAT, f"{name}: {quoted(text)} is too long", _REMEDY)
    return text


def _texts(entry: object, name: str) -> tuple[str, ...]:
    found: list[object] = _required(entry, name, list)
    for text in found:
        if type(text) is not str:
            raise InvalidInput(_WHAT, f"{name}: {quoted(text)} is not a string", _REMEDY)
    return tuple(found)  # type: ignore[arg-type]


def _list(document: object, name: str) -> list[object]:
    found = document.get(name) if type(document) is dict else None
    return found if type(found) is list else []
