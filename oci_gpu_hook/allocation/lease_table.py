"""The JSON form of the lease table in STATE/leases.json. Pure.

`store` reads and writes the file. schemas/lease-record.schema.json defines the form; docs/allocation.md explains it.
"""

from __future__ import annotations

from oci_gpu_hook.allocation.json_members import HOLDER, holder_of, holder_to_json, wrong
from oci_gpu_hook.allocation.model import Lease, LeasedDevice, LeaseTable
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.request.model import DEFAULT_KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.allocation.json_members import Kinds
    from oci_gpu_hook.allocation.model import Waiter

VERSION: Final = 1

# The types of the members of each JSON object.
_TABLE: Final[Kinds] = {"version": int, "nextTicket": int, "leases": list, "queue": list}
_DEVICE: Final[Kinds] = {"gpu": str, "mig": str}
_DEVICE_OF_KIND: Final[Kinds] = {**_DEVICE, "kind": str}
_SHARE: Final[Kinds] = {"memory": int, "cores": int}
_LEASE: Final[Kinds] = {
    "container": str, "devices": list, "exclusive": bool, **HOLDER, "since": str, "starting": bool,
}  # fmt: skip
_LEASE_OF_POD: Final[Kinds] = {**_LEASE, "pod": str}


def to_json(table: LeaseTable) -> dict[str, object]:
    """Return the form of STATE/leases.json."""
    queue: list[dict[str, object]] = []
    if table.queue:
        from oci_gpu_hook.allocation import queue as waiters

        queue = [waiters.to_json(waiter) for waiter in table.queue]
    leases = [_lease_json(lease) for lease in table.leases]
    return {"version": VERSION, "nextTicket": table.next_ticket, "leases": leases, "queue": queue}


def _lease_json(lease: Lease) -> dict[str, object]:
    document: dict[str, object] = {
        "container": lease.container,
        "devices": [_device_json(device) for device in lease.devices],
        "exclusive": lease.exclusive,
        **holder_to_json(lease.holder),
        "since": lease.since,
        "starting": lease.starting,
    }
    if lease.pod:
        document["pod"] = lease.pod
    for name, value in (("counted", lease.counted), ("injected", lease.injected), ("attached", lease.attached)):
        if value:
            document[name] = True
    return document


def _device_json(device: LeasedDevice) -> dict[str, object]:
    document: dict[str, object] = {"gpu": device.whole, "mig": device.part}
    if device.kind != DEFAULT_KIND:
        document["kind"] = device.kind
    if device.is_share:
        document |= {"memory": device.memory, "cores": device.cores}
    return document


def from_json(document: Any) -> tuple[LeaseTable, list[str]]:
    """Return the table, and what is wrong with the document. Entries that cannot be read are left out."""
    complaints = []
    trouble = wrong(document, _TABLE)
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
    return LeaseTable(leases=tuple(leases), queue=queue, next_ticket=next_ticket), complaints


def _wrong_lease(entry: Any) -> str:
    trouble = wrong(entry, _LEASE_OF_POD if type(entry) is dict and "pod" in entry else _LEASE)
    if trouble:
        return trouble
    for name in ("counted", "injected", "attached"):
        if type(entry.get(name, False)) is not bool:
            return f"{name}: expected true or false, found {quoted(entry[name])}"
    for device in entry["devices"]:
        trouble = wrong(device, _DEVICE_OF_KIND if type(device) is dict and "kind" in device else _DEVICE)
        if trouble:
            return trouble
        if "memory" in device or "cores" in device:
            trouble = wrong(device, _SHARE)
            if trouble:
                return trouble
        if not (device["gpu"] or device["mig"]):
            return "a device has neither gpu nor mig"
    return ""


def _lease(entry: Any) -> Lease:
    return Lease.of(
        {
            "container": entry["container"],
            "devices": tuple([_device(device) for device in entry["devices"]]),
            "exclusive": entry["exclusive"],
            "holder": holder_of(entry),
            "since": entry["since"],
            "starting": entry["starting"],
            "pod": entry.get("pod", ""),
            "counted": entry.get("counted", False),
            "injected": entry.get("injected", False),
            "attached": entry.get("attached", False),
        }
    )


def _device(entry: Any) -> LeasedDevice:
    kind = entry.get("kind", DEFAULT_KIND)
    fields = {"whole": entry["gpu"], "part": entry["mig"], "kind": kind, "memory": 0, "cores": 0}
    if "memory" in entry:
        fields |= {"memory": entry["memory"], "cores": entry["cores"]}
    return LeasedDevice.of(fields)


def _list(document: Any, name: str) -> list[Any]:
    found = document.get(name) if type(document) is dict else None
    return found if type(found) is list else []
