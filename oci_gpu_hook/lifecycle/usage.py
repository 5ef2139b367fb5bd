"""Tells for each device which containers hold or use it, with which processes, and what uses it outside any lease."""

from __future__ import annotations

from oci_gpu_hook.allocation import conflict, shares
from oci_gpu_hook.apply.device_access import cgroup
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.use import SHARED, DeviceUse
from oci_gpu_hook.lifecycle import in_use
from oci_gpu_hook.lifecycle.census import Census, Resident, command_of
from oci_gpu_hook.lifecycle.members import Members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.allocation.shares import Standing
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.use import ProcessUse

_MPS_SERVER: Final = "nvidia-cuda-mps"  # nvidia-cuda-mps-server; the kernel cuts names to 15 bytes


class Working(Record):
    """A process that uses a device. name: its own word. server: whether it has it open for clients (MPS)."""

    pid: int
    name: str
    kind: str
    memory: int | None = None
    utilization: int | None = None
    server: bool = False


class Holder(Record):
    """A container that holds a device, by a lease, or uses it without one. since: of the lease, RFC 3339, UTC.

    reserved_memory, reserved_cores: its part, as bytes and a percentage of the cores; 0 for what is not limited.
    """

    container: Resident
    leased: bool
    exclusive: bool = False
    since: str = ""
    processes: tuple[Working, ...] = ()
    reserved_memory: int = 0
    reserved_cores: int = 0

    @property
    def is_share(self) -> bool:
        """Whether it has a part of the device, and not all of it."""
        return self.reserved_memory > 0 or self.reserved_cores > 0

    @property
    def is_over(self) -> bool:
        """Whether its processes have more memory than its part."""
        return 0 < self.reserved_memory < (self.memory or 0)

    @property
    def memory(self) -> int | None:
        """Bytes of the device's memory that its processes have, None if that is not known."""
        return _sum([process.memory for process in self.processes])

    @property
    def utilization(self) -> int | None:
        """Percent of the device's multiprocessors that its processes keep busy, None if that is not known."""
        return _sum([process.utilization for process in self.processes])


class DeviceView(Record):
    """A device, what it is used for, who holds or uses it, and processes that run in no container.

    use: None where the driver says nothing of it. standing: what of it is reserved; None for what has no parts by size.
    """

    device: Device
    use: DeviceUse | None = None
    holders: tuple[Holder, ...] = ()
    outside: tuple[Working, ...] = ()
    standing: Standing | None = None

    @property
    def leased(self) -> bool:
        """Whether a container has a lease of it."""
        return any(holder.leased for holder in self.holders)


def view(
    devices: Iterable[Device], uses: Mapping[str, DeviceUse], leases: Sequence[Lease], census: Census
) -> tuple[DeviceView, ...]:
    """Return what there is to say of each device. uses: by UUID, as far as the driver says."""
    census.take(leases)
    return tuple([_of_device(device, uses.get(device.uuid), leases, census) for device in devices])


def _of_device(device: Device, use: DeviceUse | None, leases: Sequence[Lease], census: Census) -> DeviceView:
    holding = [(lease, census.of_lease(lease)) for lease in _leases_of(device, leases)]
    inside: dict[tuple[str, int], tuple[Resident, list[Working]]] = {
        _key(resident): (resident, []) for _, resident in holding
    }
    outside = []
    for process in () if use is None or device.parts else use.processes:
        resident = census.of_process(process.pid)
        working = _working(process)
        if resident is None:
            outside.append(working)
        else:
            inside.setdefault(_key(resident), (resident, []))[1].append(working)
    working_here = [*outside, *(working for _, found in inside.values() for working in found)]
    if use and use.node and any(working.server for working in working_here):
        for resident, found in inside.values():
            found.extend(_clients(resident, use.node, found))
    holders = [
        _holder(lease, resident, device, inside.pop(_key(resident), (resident, []))[1]) for lease, resident in holding
    ]
    holders += [Holder(container=one, leased=False, processes=tuple(found)) for one, found in inside.values()]
    standing = shares.standing(device, leases) if device.shareable and not (device.parts or device.fault) else None
    return DeviceView(device=device, use=use, holders=tuple(holders), outside=tuple(outside), standing=standing)


def _holder(lease: Lease, resident: Resident, device: Device, processes: Sequence[Working]) -> Holder:
    memory, cores = shares.part_of(lease, device)
    return Holder(
        container=resident,
        leased=True,
        exclusive=lease.exclusive,
        since=lease.since,
        processes=tuple(processes),
        reserved_memory=memory,
        reserved_cores=cores,
    )


def _leases_of(device: Device, leases: Sequence[Lease]) -> list[Lease]:
    """Return the leases of a device; of one that is divided only those of the whole, as its parts have views too."""
    found = conflict.holders(device, leases)
    if not device.parts:
        return found
    return [lease for lease in found if any(one.whole == device.uuid and not one.part for one in lease.devices)]


def _working(process: ProcessUse) -> Working:
    name = command_of(process.pid)
    return Working(
        pid=process.pid,
        name=name,
        kind=process.kind,
        memory=process.memory,
        utilization=process.utilization,
        server=name.startswith(_MPS_SERVER),
    )


def _clients(resident: Resident, node: tuple[int, int], known: Sequence[Working]) -> list[Working]:
    """Return the processes of a container that have the device open, and that the driver counts as their server's."""
    pids = {working.pid for working in known}
    try:
        with cgroup.find(resident.pid) as devices:
            found = in_use.users(Members(resident.pid, devices, tuple), [node])
    except (HookError, OSError):  # it has ended
        return []
    certain = [user for user in found if not user.doubt and user.pid not in pids]
    return [Working(pid=user.pid, name=user.name, kind=SHARED) for user in certain]


def _key(resident: Resident) -> tuple[str, int]:
    return resident.id, resident.pid


def _sum(numbers: Sequence[int | None]) -> int | None:
    """Return the sum; None if some are not known."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
