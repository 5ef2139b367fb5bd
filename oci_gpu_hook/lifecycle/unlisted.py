"""Gives back leases that an attachment has left which was killed before the journal knew of it.

The lease is recorded first. Until the journal lists the device nothing of the container was changed, so the lease is
all that is to be taken back. An attachment that is under way has the container's lock, and keeps its lease.
"""

from __future__ import annotations

from oci_gpu_hook.allocation import attached, query
from oci_gpu_hook.allocation.holders import Processes
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.processes import start_time
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.lifecycle import settling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from oci_gpu_hook.base.config.model import Config

_EVENT: Final = "lease given back"
_REASON: Final = "its attachment was interrupted"


class GivenBack(Record):
    """A container, and the UUIDs of the devices whose leases were given back."""

    container: str
    uuids: tuple[str, ...]


def give_back(config: Config) -> tuple[GivenBack, ...]:
    """Give back what such attachments have left of leases, of all containers; return it. Raises AllocationError."""
    own = (0, Processes().pid_namespace)
    leases = [lease for lease in query.readable(config).leases if lease.attached and lease.holder.pid_namespace in own]
    found = []
    for container, pid in dict.fromkeys((lease.container, lease.holder.pid) for lease in leases):
        if settling.unlisted(container, pid, config) and (uuids := _taken(container, pid, config)):
            found.append(GivenBack(container=container, uuids=uuids))
    return tuple(found)


def freed(config: Config) -> bool:
    """Do that before a refusal, and log it; tell whether something was given back. Raises AllocationError."""
    found = give_back(config)
    for each in found:
        log.warning(_EVENT, of=each.container, gpus=list(each.uuids), reason=_REASON)
    return bool(found)


class Leftovers:
    """Does that again and again. tell: as that of healing.Healer."""

    def __init__(self, config: Config, tell: Callable[..., object]) -> None:
        self._config = config
        self._tell = tell
        self._is_silent = False  # whether it was told that leases cannot be given back

    def look(self) -> None:
        """Do it once, and tell of it."""
        try:
            found = give_back(self._config)
        except HookError as error:
            if not self._is_silent:
                self._tell("warning", "lease not given back", reason=str(error))
            self._is_silent = True
            return
        self._is_silent = False
        for each in found:
            self._tell("info", _EVENT, container=each.container, gpus=list(each.uuids), reason=_REASON)


def _taken(container: str, pid: int, config: Config) -> tuple[str, ...]:
    """Give back the leases of a container, unless somebody works on it now; return the UUIDs of their devices."""
    with journal.Lock(config, (pid, start_time(pid)), patience=0) as lock:
        uuids = settling.unlisted(container, pid, config) if lock.is_held else ()
        if uuids:
            attached.give_back(container, pid, uuids, config)
    return uuids
