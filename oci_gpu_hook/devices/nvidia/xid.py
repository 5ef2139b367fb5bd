"""Reads the driver's Xid errors, as it writes them to the kernel's log, and says which make a GPU unusable. Pure.

Source: NVIDIA, "Analyzing Xid Errors with the Xid Catalog",
https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html
"""

from __future__ import annotations

import re  # noqa: TID253  for `oci-gpu watch`, which no start imports

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia.procfs import bus_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Those whose immediate action in the catalogue is RESET_GPU or RESTART_BM, and 48, whose workflow ends with a reset.
# Not 109, a context switch that took too long: a program alone can cause it, and NVIDIA's device plugin for Kubernetes
# does not count it either. Not 74 and 144 to 150, NVLink's, whose action depends on more than the number. Where one of
# these needs a reset all the same, the driver says so by 154.
SICK: Final = frozenset((46, 48, 62, 64, 79, 95, 110, 119, 120, 136, 140, 143, 155, 156, 158))
_RECOVERY: Final = 154  # "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"
_ERROR: Final = re.compile(
    rb"NVRM: Xid \(PCI:([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.0)?(?: GPU-I:[0-9a-fA-F]{1,2})?\): "
    rb"([0-9]{1,4})(?:, (.*))?"
)
_ACTION: Final = re.compile(r" to 0x0*[1-9a-f]")


class Xid(Record):
    """An error of the driver: the GPU's bus id in NVML's form, the error's number, and its text."""

    bus_id: str
    number: int
    text: str

    @property
    def is_grave(self) -> bool:
        """Whether the GPU is of no use until it is reset, or the host restarted."""
        if self.number == _RECOVERY:
            return _ACTION.search(self.text) is not None
        return self.number in SICK


def error_in(message: bytes) -> Xid | None:
    """Return the error that a message of the kernel reports, None if it reports none.

    A message begins with what the kernel's code says; what processes have chosen, such as their names, comes later.
    """
    found = _ERROR.match(message)
    if found is None:
        return None
    text = (found[3] or b"").decode("utf-8", "replace")
    return Xid(bus_id=f"{bus_id(found[1].decode())}.0", number=int(found[2]), text=text[: limits.XID_TEXT])
