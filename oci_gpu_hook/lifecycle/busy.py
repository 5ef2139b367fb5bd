"""The refusal to take devices that processes of a container have open: who they are, what memory they have there."""

from __future__ import annotations

from oci_gpu_hook.base import amounts
from oci_gpu_hook.base.errors import AllocationError, HookError, quoted
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.request.model import DEFAULT_KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.lifecycle.in_use import User

_NAMED: Final = 8


class Busy(Exception):
    """Processes have the devices open."""

    def __init__(self, users: tuple[User, ...]) -> None:
        super().__init__()
        self.users = users


def refusal(
    container_id: str, users: Sequence[User], uuids: Collection[str], config: Config, *, forced: bool
) -> AllocationError:
    """Return the error that names the processes. forced: whether they were asked to end, and killed."""
    memory = _memory(uuids, config)
    said = ", ".join(_said(user, memory.get(user.pid)) for user in users[:_NAMED])
    more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
    remedy = "end them first, or have --force do it"
    if any(user.doubt for user in users):
        remedy = (
            "end them by hand: --force ends only processes that are in the container's own cgroup and have one open"
        )
    elif forced:
        remedy = "look in the kernel's log for why they do not end"
    what = f"{vendors.called(uuids)} of container {quoted(container_id)}"
    return AllocationError(what, f"are in use by process {said}{more}", remedy, "OGH1310")


def _said(user: User, memory: int | None) -> str:
    used = f", {amounts.shown(memory)}" if memory else ""
    return f"{user.pid} ({quoted(user.name)}{used}{f'; {user.doubt}' if user.doubt else ''})"


def _memory(uuids: Collection[str], config: Config) -> dict[int, int]:
    """Return what processes have of the memory of devices, by pid; {} where the driver does not say."""
    try:
        uses = vendors.of(DEFAULT_KIND).used(config)
    except HookError:
        return {}
    found: dict[int, int] = {}
    for uuid in uuids:
        for process in uses[uuid].processes if uuid in uses else ():
            found[process.pid] = found.get(process.pid, 0) + (process.memory or 0)
    return found
