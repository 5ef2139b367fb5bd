"""Reads scalar values of variables and annotations: numbers, sizes, durations, yes or no."""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import InvalidInput, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LARGEST_NUMBER_DIGITS: Final = 9
_TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")  # as Go's strconv.ParseBool, which NVIDIA's tools use
_FALSE: Final = ("0", "f", "F", "false", "FALSE", "False")


def items(text: str) -> list[str]:
    """Return the items of a comma-separated list, trimmed, without the empty ones.

    A list of more than `limits.LISTED` items is returned as that many and one more for the rest; `check_number` refuses
    it wherever the list matters.
    """
    parts = text.split(",", limits.LISTED)
    if len(parts) > limits.LISTED:
        return parts
    return [item for part in parts if (item := part.strip())]


def check_number(listed: int, what: str) -> None:
    """Raise InvalidInput if a list has more items than anybody can mean. `what` names its origin."""
    if listed > limits.LISTED:
        raise InvalidInput(what, f"lists more than {limits.LISTED} items", "name each device once", "OGH1003")


def boolean(text: str) -> bool | None:
    """Return the truth value that Go reads in a text, None for any other text."""
    if text in _TRUE:
        return True
    return False if text in _FALSE else None


def digits(text: str) -> int | None:
    """Return a whole number written in ASCII digits, at most nine of them; None for any other text."""
    if text.isascii() and text.isdecimal() and len(text) <= LARGEST_NUMBER_DIGITS:
        return int(text)
    return None


def number(text: str, what: str) -> int:
    """Return a whole number from 0 to 999999999. `what` names its origin. Raises InvalidInput."""
    value = digits(text.strip())
    if value is None:
        raise InvalidInput(
            f"{what}={quoted(text)}",
            "is not a whole number",
            "write one from 0 to 999999999 in digits, such as 2",
            "OGH1202",
        )
    return value


def duration(text: str, what: str) -> int:
    """Return the seconds in a text such as `30s`, `5m`, `1h` or `30`. Raises InvalidInput."""
    from oci_gpu_hook.base.duration import seconds  # few containers wait

    found = seconds(text)
    if found is None:
        raise InvalidInput(
            f"{what}={quoted(text)}", "is not a time", "write a whole number and s, m or h, such as 30s", "OGH1202"
        )
    return found


def truth(text: str, what: str) -> bool:
    """Return yes or no. Raises InvalidInput for any other text, which must not count as no."""
    value = boolean(text.strip())
    if value is None:
        raise InvalidInput(f"{what}={quoted(text)}", "is neither true nor false", "write 'true' or 'false'", "OGH1202")
    return value


def size(text: str, what: str) -> int:
    """Return the bytes in a text such as `40GiB` or `40000MB`. Raises InvalidInput."""
    from oci_gpu_hook.base import amounts  # few containers name an amount

    found = amounts.size(text)
    if found is None:
        raise InvalidInput(f"{what}={quoted(text)}", "is not an amount of memory", f"write {amounts.FORM}", "OGH1202")
    return found
