"""Tells whether containers use more of a device than the part that they were given: programs may leave MPS."""

from __future__ import annotations

from oci_gpu_hook.allocation import query
from oci_gpu_hook.apply.operations.inspection import Finding
from oci_gpu_hook.base.errors import DriverError, HookError, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.lifecycle.census import Census

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.use import DeviceUse

LIMITS: Final = "limits"
_MIB: Final = 1 << 20


class Given(Record):
    """The memory of a device that a container was given. id, pid: of the container."""

    id: str
    pid: int
    uuid: str
    memory: int


class Overuse(Record):
    """More memory of a device than was given, in bytes."""

    given: Given
    used: int

    def __str__(self) -> str:
        """Say what is used, and of how much."""
        given = self.given
        return f"use {self.used // _MIB} MiB of {quoted(given.uuid)}, of which it was given {given.memory // _MIB} MiB"


def of(entry: Entry, config: Config) -> Iterator[Finding]:
    """Yield a finding for each device of which the container uses more memory than its part, as the driver says."""
    limit, _ = entry.share
    uuids = [uuid for uuid in entry.gpus if uuid not in entry.attached]
    given = [Given(id=entry.id, pid=entry.pid, uuid=uuid, memory=limit) for uuid in uuids if limit]
    leases = query.readable(config).leases if given else ()
    census = Census(config)
    census.take(lease for lease in leases if lease.container == entry.id)
    try:
        found = beyond(given, census, config)
    except HookError:  # that the driver does not say is no fault of the container's
        return
    for each in found:
        what = f"programs of container {quoted(entry.id)}"
        remedy = "stop it, or ask its owner: they bypass MPS, or are several, each of which may use the whole part"
        yield Finding(kind=LIMITS, what=what, why=str(each), remedy=remedy, repairable=False)


def given_by(leases: Iterable[Lease]) -> list[Given]:
    """Return the memory that leases limit."""
    return [
        Given(id=lease.container, pid=lease.holder.pid, uuid=device.uuid, memory=device.memory)
        for lease in leases
        for device in lease.devices
        if device.memory and not lease.starting
    ]


def beyond(given: Sequence[Given], census: Census, config: Config) -> list[Overuse]:
    """Return those who use more than they were given. Raises DriverError if the driver does not say."""
    uses: dict[str, DeviceUse] = {}
    for kind in dict.fromkeys(vendors.kind_of(each.uuid) for each in given):
        uses.update(vendors.of(kind).used(config))
    if given and not uses:
        raise DriverError("use of GPUs", "is not told by the driver", "see `oci-gpu doctor`", "OGH1406")
    used = {each: _used(each, uses, census) for each in given}
    return [Overuse(given=each, used=bytes_) for each, bytes_ in used.items() if bytes_ > each.memory]


def _used(given: Given, uses: Mapping[str, DeviceUse], census: Census) -> int:
    """Return the bytes that the processes of a container have of a device."""
    total = 0
    for process in uses[given.uuid].processes if given.uuid in uses else ():
        resident = census.of_process(process.pid)
        if resident and (resident.id, resident.pid) == (given.id, given.pid):
            total += process.memory or 0
    return total
