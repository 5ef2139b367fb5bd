"""A time as people write it: `30s`, `5m`, `1h`, or seconds without a unit."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> int | None:
    """Return the seconds, None for any other text."""
    text = text.strip()
    unit = _UNITS.get(text[-1:])
    digits = text[:-1] if unit else text
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 9):
        return None
    return int(digits) * (unit or 1)
