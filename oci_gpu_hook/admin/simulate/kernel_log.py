"""The kernel's log of a simulated host, DIR/kmsg: records in the form of /dev/kmsg, which is read to its end."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.admin.simulate.model import SimulatedHost

NAME: Final = "kmsg"
_ERROR: Final = 3  # KERN_ERR, of the kernel's own facility


def report(host: SimulatedHost, xids: Sequence[tuple[int, int]]) -> None:
    """Append errors of GPUs, each as the GPU's place on the bus and the number of the Xid; make the file."""
    fd = os.open(f"{host.directory}/{NAME}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        for place, number in xids:
            bus = host.gpus[place].bus_id.rpartition(".")[0]
            now = time.monotonic_ns() // 1000  # grows as sequences do
            text = f"NVRM: Xid (PCI:{bus}): {number}, pid='<unknown>', name=<unknown>, simulated"
            os.write(fd, f"{_ERROR},{now},{now},-;{text}\n".encode())
    finally:
        os.close(fd)
