"""Reads the part of each device that is asked for: `io.oci-gpu-hook.memory-limit`, `.cores`, and their variables."""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.request.values import digits, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_LEAST: Final = 1 << 20  # bytes: limits are set in MiB


def memory(text: str, what: str) -> int:
    """Return the bytes in a limit of memory. Raises InvalidInput."""
    amount = size(text, what)
    if amount < _LEAST:
        why = f"is {amount} bytes, less than any program needs"
        raise InvalidInput(f"{what}={quoted(text)}", why, "write a unit, such as 8GiB", "OGH1202")
    return amount


def cores(text: str, what: str) -> int:
    """Return a percentage of the computing cores. Raises InvalidInput."""
    value = digits(text.strip().removesuffix("%").rstrip())
    if value is None or not 1 <= value <= 100:
        why = "is not a part of a GPU's cores"
        raise InvalidInput(f"{what}={quoted(text)}", why, "write a percentage from 1% to 100%, such as 25%", "OGH1202")
    return value
