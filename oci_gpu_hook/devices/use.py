"""What a vendor's room says of the use of its devices at a moment: figures, and the processes that use them. Pure."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

COMPUTE: Final = "compute"
GRAPHICS: Final = "graphics"
SHARED: Final = "mps"  # a client of a server that has the device open for all of its clients


class ProcessUse(Record):
    """A process that uses a device, by its pid in the host's namespace.

    kind: COMPUTE, GRAPHICS or SHARED. memory: bytes of the device's. utilization: percent of its multiprocessors. None
    for what the driver does not say.
    """

    pid: int
    kind: str = COMPUTE
    memory: int | None = None
    utilization: int | None = None


class DeviceUse(Record):
    """The use of a device. None for what the driver does not say, as it does of no part of a device.

    utilization: percent of the time in which a kernel ran. memory_utilization: in which its memory was read or written.
    memory_used, memory_total: bytes. power, power_limit: watts. temperature: degrees Celsius.
    node: (major, minor) of its device node, by which processes are found that the driver does not list.
    """

    uuid: str
    utilization: int | None = None
    memory_utilization: int | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    power: float | None = None
    power_limit: float | None = None
    temperature: int | None = None
    processes: tuple[ProcessUse, ...] = ()
    node: tuple[int, int] | None = None
