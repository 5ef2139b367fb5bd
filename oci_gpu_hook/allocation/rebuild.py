"""Rebuilds a lease table that is damaged or missing from the journals of containers; the damaged file is kept."""

from __future__ import annotations

import os
import time

from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.allocation.model import Lease, LeasedDevice
from oci_gpu_hook.base import document, limits
from oci_gpu_hook.base.document import member
from oci_gpu_hook.base.errors import HookError, InvalidInput, quoted
from oci_gpu_hook.base.trust import read_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.allocation.holders import Processes
    from oci_gpu_hook.allocation.model import LeaseTable

JOURNALS: Final = "containers"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WHAT: Final = "journal"
_REMEDY: Final = "nothing to do: it proves no lease"


def completed(readable: LeaseTable, directory: int, processes: Processes) -> LeaseTable:
    """Return the readable entries of a record, and the leases that journals show in addition.

    directory: descriptor of the state directory.
    """
    known = {_of(lease) for lease in readable.leases}
    attested = _journals(directory, processes)
    missing = [lease for lease in attested if _of(lease) not in known]
    return readable.replace(leases=(*readable.leases, *missing))


def _of(lease: Lease) -> tuple[str, int, int]:
    return lease.container, lease.holder.pid, lease.holder.start_time


def set_aside(record: str, directory: int) -> str:
    """Rename the record, so that a person can examine it; return its new name. Raises OSError."""
    aside = f"{record}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{time.time_ns() % 10**9:09d}"
    os.rename(record, aside, src_dir_fd=directory, dst_dir_fd=directory)
    return aside


def from_journal(entry: object, boot_id: str, pid_namespace: int) -> Lease:
    """Return the lease that a container's journal STATE/containers/*.json shows. Raises InvalidInput.

    If a journal lacks the boot and namespace, those of now are assumed; the start time decides whether its container is
    alive.
    """
    devices = [_device(uuid) for uuid in _required(entry, "gpus", list)]
    share = member(entry, "share", dict, _WHAT, {})
    if share:
        sizes = {"memory": _required(share, "memory", int), "cores": _required(share, "cores", int)}
        later = member(entry, "attached", list, _WHAT, [])
        devices = [each if each.uuid in later else each.replace(**sizes) for each in devices]
    return Lease(
        container=_required(entry, "id", str),
        devices=tuple(devices),
        exclusive=member(entry, "exclusive", bool, _WHAT, False),
        holder=Holder(
            pid=_required(entry, "pid", int),
            start_time=_required(entry, "startTime", int),
            boot_id=member(entry, "bootId", str, _WHAT, boot_id),
            pid_namespace=member(entry, "pidNamespace", int, _WHAT, pid_namespace),
        ),
        since=member(entry, "since", str, _WHAT, ""),
    )


def _journals(state_directory: int, processes: Processes) -> list[Lease]:
    """Return the leases that journals show. Unreadable journals are skipped."""
    try:
        directory = os.open(JOURNALS, _DIRECTORY, dir_fd=state_directory)
    except OSError:
        return []
    leases = []
    try:
        for name in sorted(os.listdir(directory)):
            if not name.endswith(".json"):
                continue
            try:
                entry = document.parse(read_trusted(name, limits.JOURNAL_ENTRY, directory), name)
                lease = from_journal(entry, processes.boot_id, processes.pid_namespace)
            except (HookError, OSError):
                continue
            if lease.devices and lease.holder.pid:
                leases.append(lease)
    finally:
        os.close(directory)
    return leases


def _device(uuid: object) -> LeasedDevice:
    if type(uuid) is not str:
        raise InvalidInput(_WHAT, f"gpus: {quoted(uuid)} is not a string", _REMEDY)
    kind, equals, _ = uuid.partition("=")
    if equals and "/" in kind:  # one that a CDI specification describes is on record by its qualified name
        return LeasedDevice(whole=uuid, kind=kind)
    return LeasedDevice(whole="", part=uuid) if uuid[:4].upper() == "MIG-" else LeasedDevice(whole=uuid)


def _required(entry: object, name: str, kind: type) -> Any:
    found = member(entry, name, kind, _WHAT)
    if found is None:
        raise InvalidInput(_WHAT, f"{name} is missing in {quoted(entry)}", _REMEDY)
    if kind is int and not 0 <= found < 1 << 63:
        raise InvalidInput(_WHAT, f"{name}: {quoted(found)} is out of range", _REMEDY)
    if kind is str and len(found) > 4096:  # PATH_MAX: no name in the file is longer
        raise InvalidInput(_WHAT, f"{name}: {quoted(found)} is too long", _REMEDY)
    return found
