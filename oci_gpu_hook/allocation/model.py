"""The values of the lease table: leases, and containers that wait. Pure."""

from __future__ import annotations

from oci_gpu_hook.base.errors import AllocationError
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.request.model import DEFAULT_KIND, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.allocation.holders import Holder
    from oci_gpu_hook.devices.model import Device


class LeasedDevice(Record):
    """A leased device by UUID: a whole device, or a part of one such as a MIG device.

    whole: of a part, "" if it is unknown. kind: as in Device. memory, cores: the bytes and the percentage of its cores
    that the container has of it, 0 for no limit.
    """

    whole: str
    part: str = ""
    kind: str = DEFAULT_KIND
    memory: int = 0
    cores: int = 0

    @property
    def uuid(self) -> str:
        """The UUID of what is leased."""
        return self.part or self.whole

    @property
    def is_share(self) -> bool:
        """Whether the container has a part of it, beside which others may have theirs."""
        return self.memory > 0 or self.cores > 0


class Lease(Record):
    """The devices that a container holds. since: RFC 3339, UTC.

    starting: the holder is the runtime that creates the container, which has no process yet. pod:
    NAMESPACE/POD/CONTAINER, "" outside a pod. counted: whether this project chose the devices. injected: whether
    somebody else has put them into the container. attached: whether they came while it ran.
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
    attached: bool = False

    @property
    def name(self) -> str:
        """The container's name for people."""
        return self.pod or self.container


class Kept(Lease):
    """Devices that are kept for a waiting container, in the form of a lease that those behind it respect.

    request: what it waits for. waited: seconds that it has waited. left: seconds until its turn ends, 0 if it could be
    served now.
    """

    request: Request
    waited: int
    left: int


class Waiter(Record):
    """A hook that delays a container's start until the request can be granted. Lower tickets come first.

    uptime: of the machine when the wait began, in seconds.
    """

    ticket: int
    container: str
    holder: Holder
    request: Request
    since: str
    uptime: int = 0


class LeaseTable(Record):
    """All leases, and the queue of waiting containers.

    next_ticket only grows, so no place in the queue is given twice.
    """

    leases: tuple[Lease, ...] = ()
    queue: tuple[Waiter, ...] = ()
    next_ticket: int = 1


class Moment(Record):
    """A point in time. date: RFC 3339, UTC; uptime: of the machine, in seconds, which nobody can set."""

    date: str
    uptime: int


class Claim(Record):
    """A container's request, and the process that will hold its lease. starting, pod: as in Lease.

    makers: processes that may be the runtime that creates the container, and so may hold its lease until now.
    """

    container: str
    holder: Holder
    request: Request
    starting: bool = False
    pod: str = ""
    makers: tuple[Holder, ...] = ()


class Busy(AllocationError):
    """The devices exist, but others hold them, so waiting can help."""

    code = "OGH1303"


def leased(device: Device, request: Request) -> LeasedDevice:
    """Return a device that is granted to a request in the form of a lease."""
    found = LeasedDevice(whole=device.whole or device.uuid, part=device.uuid if device.whole else "", kind=device.kind)
    if request.is_share:
        return found.replace(memory=request.memory_limit, cores=request.cores)
    return found
