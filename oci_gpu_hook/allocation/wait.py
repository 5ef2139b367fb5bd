"""A container's wait for GPUs: its place in the queue, and when it tries again."""

from __future__ import annotations

import time

from oci_gpu_hook.allocation import queue
from oci_gpu_hook.allocation.store import stamp_of
from oci_gpu_hook.base import counts, limits
from oci_gpu_hook.base.errors import AllocationError, quoted
from oci_gpu_hook.base.processes import check_principal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.allocation.holders import Processes
    from oci_gpu_hook.allocation.model import Busy, Claim, LeaseTable, Moment, Waiter
    from oci_gpu_hook.base.config.model import Config

POLL: Final = 0.05  # seconds between checks whether the file was replaced
LOOK_AGAIN: Final = 1.0  # seconds between checks whether a holder has died
# Each look takes the lock that every start needs. So containers with many ahead of them look less often, and one after
# the other when the file was replaced.
_PATIENCE_OF: Final = 1 / 16  # of LOOK_AGAIN, for each container ahead
_APART: Final = 1 / 64  # seconds, for each container ahead


class Wait:
    """One claim's wait, at most `request.wait` seconds. place: in the queue, None outside it."""

    def __init__(self, claim: Claim, processes: Processes, config: Config, began: float) -> None:
        """began: time.monotonic() when the container began to wait for GPUs or, before, for a driver."""
        self._claim = claim
        self._processes = processes
        self._directory = config.state_dir
        self._longest = config.allocation_longest_wait
        self._began = began
        self._give_up = began + claim.request.wait
        self._ended = False
        self._late = False
        self._ahead = 0
        self._crowd = 0  # as many as may wait, where there is no place left
        self.place: Waiter | None = None
        self._has_waited = False

    def begin_look(self) -> None:
        """Note whether the attempt that begins now is the last one."""
        self._ended = self._processes.lives(self._claim.holder) is False
        self._late = self._ended or time.monotonic() >= self._give_up

    @property
    def is_at_an_end(self) -> bool:
        """Whether the wait has not begun yet, or is over: the moments to look for what others have left."""
        return self._late or not self._has_waited

    def queued(self, table: LeaseTable, now: Moment) -> LeaseTable:
        """Return the table with a place for the claim, or without it when the time is up."""
        if self._late:
            place, self.place = self.place, None
            return queue.leave(table, place) if place else table
        if self.place:
            ticket = self.place.ticket
            self._ahead = sum(1 for waiter in table.queue if waiter.ticket < ticket)
            return queue.keep_place(table, self.place)
        self._ahead = len(table.queue)
        if self._ahead >= limits.WAITERS:
            self._crowd = self._ahead
            return table
        hook = self._processes.holder(0)
        if hook is None:
            return table
        self.place, table = queue.enqueue(table, self._claim, hook, now)
        return table

    def count(self) -> None:
        """Count the wait that has ended with a grant, if there was one."""
        if self._has_waited:
            counts.waited(self._directory, time.monotonic() - self._began)

    def pause(self, stamp: tuple[int, int], busy: Busy) -> None:
        """Sleep until the file is replaced, a holder may have died, or the time is up.

        stamp: of the file when it was read. Raises `busy` after the last attempt.
        """
        if self._ended:
            what = f"container {quoted(self._claim.container)}"
            raise AllocationError(what, "ended while it waited for GPUs", "start it again", "OGH1307")
        if self._crowd:
            why = f"{busy.why}; {self._crowd} containers are waiting already, which is the limit"
            raise AllocationError(busy.what, why, busy.remedy, "OGH1308")
        if self._late:
            from oci_gpu_hook.allocation import messages

            seconds = round(time.monotonic() - self._began)
            raise messages.after_wait(busy, self._claim.request, seconds, self._longest)
        self._has_waited = True
        until = min(time.monotonic() + LOOK_AGAIN * (1 + self._ahead * _PATIENCE_OF), self._give_up)
        while (left := until - time.monotonic()) > 0:
            if stamp_of(self._directory) != stamp:
                time.sleep(min(self._ahead * _APART, left))
                return
            time.sleep(min(POLL, left))
            check_principal()
