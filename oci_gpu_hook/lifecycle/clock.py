"""Measures the steps of a start, for the log and for `oci-gpu plan --timings`."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_MAY_WAIT: Final = ("inventory", "allocation")  # for a driver, and for GPUs that others hold


class Clock:
    """The milliseconds that each step took, in the order of the steps."""

    def __init__(self, started: float) -> None:
        self._last = started
        self.laps: list[tuple[str, float]] = []
        self.lap("request")

    def lap(self, step: str) -> None:
        """End a step."""
        now = time.perf_counter()
        self.laps.append((step, (now - self._last) * 1000))
        self._last = now

    def seconds(self, *, waits: bool) -> float:
        """Return the time of all steps; of a container that is ready to wait, without those in which it may have."""
        return sum(duration for step, duration in self.laps if not (waits and step in _MAY_WAIT)) / 1000

    def milliseconds(self) -> dict[str, str]:
        """Return the times in the log's form, e.g. {"plan": "0.412"}."""
        return {step: f"{duration:.3f}" for step, duration in self.laps}
