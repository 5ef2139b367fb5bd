"""How long a container that loses again what was put back is left alone. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_AT_ONCE: Final = 5  # repairs in a row after which there is a pause
_FIRST: Final = 60.0  # seconds of the first pause, each further one is twice as long
_HOUR: Final = 3600.0
_CALM: Final = 600.0  # seconds beyond the pause in which nothing was lost, after which all is as at the beginning


class Patience:
    """Counts a container's repairs. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._count = 0
        self._until = 0.0

    def allows(self, now: float) -> bool:
        """Tell whether the container may be repaired now."""
        return now >= self._until

    def note_repair(self, now: float) -> float:
        """Count a repair, or an attempt at one; return the pause until the next, which is 0 for the first few."""
        if now > self._until + _CALM:
            self._count = 0
        self._count += 1
        pause = 0.0 if self._count < _AT_ONCE else min(_FIRST * 2.0 ** (self._count - _AT_ONCE), _HOUR)
        self._until = now + pause
        return pause

    @property
    def is_first_pause(self) -> bool:
        """Whether the pause is the first one of a row, of which people are to be told."""
        return self._count == _AT_ONCE
