"""What a worker has granted for `oci-gpu-runtime create`, for the container's hook if that asks the same worker.

The two are 10 ms apart, and on a host that is not busy one worker serves both. It then does the hook's work by what it
has granted, as the process does that stays with a runtime where there is no resident (`runtime_standby.py`), and looks
at the same things again (`lifecycle.granted`). A grant is kept for the next front only, and is for no hook but one that
was started by the process that it was made for, which is the real runtime by then.
"""

from __future__ import annotations

from oci_gpu_hook.base.processes import lives, start_time
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Self

    from oci_gpu_hook.entrypoints.runtime import Prepared
    from oci_gpu_hook.lifecycle.granted import Granted

_HOOK: Final = ("prestart",)  # the arguments of the hook in a bundle that was prepared


class Handed(Record):
    """A grant, and the process of the runtime that it is for, by its pid and start time."""

    pid: int
    started: int
    granted: Granted

    @classmethod
    def by_runtime(cls, pid: int, prepared: Prepared | None) -> Self | None:
        """Return what the runtime with that pid was granted; None if its container gets nothing, or it has ended."""
        started = start_time(pid) if prepared and prepared.granted else 0
        if not (prepared and prepared.granted and started):
            return None
        return cls(pid=pid, started=started, granted=prepared.granted)

    def to_hook(self, arguments: tuple[str, ...], parent: int) -> Granted | None:
        """Return the grant if a hook is the one of the runtime's container. parent: the pid of its parent process."""
        if arguments != _HOOK or parent != self.pid or not lives(self.pid, self.started):
            return None
        return self.granted
