"""Lets a container wait for a driver, which at boot may be loaded after the engine starts, its nodes, or a GPU.

Imported only for containers that ask to wait.
"""

from __future__ import annotations

import time

from oci_gpu_hook.allocation.messages import duration
from oci_gpu_hook.base import log, processes
from oci_gpu_hook.base.errors import AllocationError, DriverError, quoted
from oci_gpu_hook.devices import vendors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.base.errors import HookError
    from oci_gpu_hook.devices.vendor import Snapshot
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.model import Request

_PAUSES: Final = ((10.0, 0.2), (float("inf"), 1.0))  # seconds since the beginning → seconds between two checks


class Arrival:
    """One container's wait for what its host may still get. lacking: what was still missing at the end, or "".

    began: time.monotonic() at the beginning of the wait, which includes the wait for GPUs.
    """

    def __init__(self, container: Container, request: Request, config: Config, began: float) -> None:
        self._container = container
        self._request = request
        self._config = config
        self._began = began
        self._started = processes.start_time(container.pid) if container.pid else 0
        self.lacking = ""

    def snapshot(self) -> Snapshot:
        """Return what the host has when that meets the request, or when the time is up. Raises HookError."""
        vendor = vendors.of(self._request.kind)
        told = False
        while True:
            self._check_container()
            over = time.monotonic() >= self._began + self._request.wait
            try:
                found = vendor.snapshot(self._request, self._config)
                self.lacking = vendor.not_yet(self._request, found.inventory, self._config)
            except DriverError as error:
                if over:
                    self.lacking = "the driver"
                    self.tell(error)
                    raise
                why = str(error)
            else:
                if over or not self.lacking:
                    return found
                why = self.lacking
            if not told:
                log.info("waiting", reason=why, seconds=self._request.wait)
                told = True
            self._pause()

    def tell(self, error: HookError) -> None:
        """Add to an error what the container has waited for and for how long, if that did not come."""
        if self.lacking:
            error.why = f"{error.why}; waited {duration(round(time.monotonic() - self._began))} for {self.lacking}"

    def _check_container(self) -> None:
        pid = self._container.pid
        if pid and not processes.lives(pid, self._started):
            what = f"container {quoted(self._container.id)}"
            raise AllocationError(what, "ended while it waited for its host's driver", "start it again", "OGH1307")

    def _pause(self) -> None:
        waited = time.monotonic() - self._began
        left = max(self._request.wait - waited, 0.0)
        time.sleep(min(left, next(pause for until, pause in _PAUSES if waited < until)))
        processes.check_principal()
