"""The values of the lease table: who holds which device, and who waits. Pure."""

from __future__ import annotations

from oci_gpu_hook.base.errors import AllocationError
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.request.model import DEFAULT_KIND, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.allocation.holders import Holder
    from oci_gpu_hook.devices.model import Device


class LeasedDevice(Record):
    """A leased device by UUID: a whole device, or the part of it that is leased, such as a MIG device.

    whole is "" where a part's is unknown. kind: as in Device.
    """

    whole: str
    part: str = ""
    kind: str = DEFAULT_KIND

    @property
    def uuid(self) -> str:
        """The UUID of what is leased."""
        return self.part or self.whole


class Lease(Record):
    """What a container holds. since: RFC 3339, UTC.

    starting: the holder is the runtime that makes the container, whose own process is still to come.
    pod: NAMESPACE/POD/CONTAINER, "" for a container of no pod.
    counted: whether the devices were chosen here. injected: whether they were put into the container by somebody else.
    """

    container: str
    devices: tuple[LeasedDevice, ...]
    exclusive: bool
    holder: Holder
    since: str
    starting: bool = False
    pod: str = ""
    counted: bool = False
    injected: bool = False

    @property
    def name(self) -> str:
        """What people know the container by."""
        return self.pod or self.container


class Kept(Lease):
    """What is kept for one that waits, as a lease that those behind it respect.

    request: what it waits for. waited, left: seconds that it has waited, and that its turn lasts still; 0 for one that
    could be served now.
    """

    request: Request
    waited: int
    left: int


class Waiter(Record):
    """A hook that holds a container's start until the request can be granted. Lower tickets come first.

    uptime: of the machine when the wait began, in seconds.
    """

    ticket: int
    container: str
    holder: Holder
    request: Request
    since: str
    uptime: int = 0


class LeaseTable(Record):
    """All leases, and the queue of those who wait.

    next_ticket only grows, so that a place in the queue is never given twice.
    """

    leases: tuple[Lease, ...] = ()
    queue: tuple[Waiter, ...] = ()
    next_ticket: int = 1


class Moment(Record):
    """When something happens. date: RFC 3339, UTC; uptime: of the machine, in seconds, which nobody can set."""

    date: str
    uptime: int


class Claim(Record):
    """What a container asks for, and the process whose life its lease follows. starting, pod: as in Lease.

    makers: processes that may be the runtime that makes the container, and hold a lease for it until now.
    """

    container: str
    holder: Holder
    request: Request
    starting: bool = False
    pod: str = ""
    makers: tuple[Holder, ...] = ()


class Busy(AllocationError):
    """The devices exist, but others hold them: here waiting can help."""


def leased(device: Device) -> LeasedDevice:
    """Return the form in which a granted device is recorded."""
    if device.whole:
        return LeasedDevice(whole=device.whole, part=device.uuid, kind=device.kind)
    return LeasedDevice(whole=device.uuid, kind=device.kind)
