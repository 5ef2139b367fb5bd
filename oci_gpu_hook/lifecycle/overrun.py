"""What is done about containers that hold GPUs for too long by the configuration: they are told of, or detached."""

from __future__ import annotations

import time
from functools import partial
from time import monotonic

from oci_gpu_hook.allocation import overdue, query
from oci_gpu_hook.lifecycle import forced
from oci_gpu_hook.lifecycle.patience import Patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_gpu_hook.allocation.holders import Holder
    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.base.config.model import Config


class Overruns:
    """Knows what was said, and tried, of whom. tell: as that of healing.Healer."""

    def __init__(self, config: Config, tell: Callable[..., object]) -> None:
        self._config = config
        self._tell = tell
        self._known: dict[Holder, Patience] = {}

    def look(self) -> None:
        """Tell of each container that holds GPUs for too long, once, and detach it if that is configured."""
        if self._config.allocation_longest_hold is None:
            return
        found: dict[Holder, list[Lease]] = {}
        for lease in overdue.overdue(query.readable(self._config).leases, self._config, time.time()):
            found.setdefault(lease.holder, []).append(lease)
        self._known = {holder: patience for holder, patience in self._known.items() if holder in found}
        for holder, leases in found.items():
            if holder not in self._known:
                self._known[holder] = Patience()
                self._say(leases, "holds GPUs for too long")
            patience = self._known[holder]
            if self._config.allocation_on_overrun == "detach" and patience.allows(monotonic()):
                patience.note_repair(monotonic())
                say = partial(self._say, leases)
                forced.detach_from(leases[0].container, holder.pid, _uuids(leases), self._config, say)

    def _say(self, leases: list[Lease], event: str, **more: object) -> None:
        since = min(lease.since for lease in leases)
        self._tell("warning", event, container=leases[0].name, gpus=_uuids(leases), since=since, **more)


def _uuids(leases: list[Lease]) -> list[str]:
    return [device.uuid for lease in leases for device in lease.devices]
