"""The C half of `json`, without importing `json`; falls back to `json` where an interpreter lacks it.

What it saves a start: docs/performance.md, "What relies on CPython's internals".
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

# What `scanner` and `scan_string` raise for text that is not JSON. SystemError: `_json` looks its exception class up in
# json.decoder, which is not imported.
REFUSALS: Final = (ValueError, StopIteration, SystemError)


def refuse_constant(name: str) -> float:
    """Raise ValueError for NaN and Infinity, which are not JSON (RFC 8259)."""
    raise ValueError(f"{name} is not a JSON value")


class _Context:
    """The attributes of a decoder that `_json.make_scanner` reads (CPython Modules/_json.c, scanner_new)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(refuse_constant)


def scanner() -> Callable[[str, int], tuple[Any, int]]:
    """Return a function that reads the JSON value at an index of a text: the value and its end, or REFUSALS."""
    made: Callable[[str, int], tuple[Any, int]]
    try:
        from _json import make_scanner
    except ImportError:
        from json import JSONDecoder

        made = JSONDecoder(parse_constant=refuse_constant).scan_once  # type: ignore[attr-defined]
    else:
        made = make_scanner(_Context)  # type: ignore[arg-type]
    return made


def scan_string(text: str, start: int) -> tuple[str, int]:
    """Return the JSON string whose first character is at `start`, and its end. Raises REFUSALS."""
    try:
        from _json import scanstring
    except ImportError:
        from json.decoder import scanstring  # type: ignore[no-redef, attr-defined]
    found: tuple[str, int] = scanstring(text, start, True)
    return found


def encode(value: object) -> str:
    """Return a value as JSON in ASCII. Raises TypeError if JSON has no such value, ValueError for infinite numbers."""
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:
        from json import JSONEncoder

        return JSONEncoder(check_circular=False, allow_nan=False, default=_refuse).encode(value)
    # (markers, default, encoder, indent, key separator, item separator, sort keys, skip keys, allow NaN)
    made = make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, False)
    return "".join(made(value, 0))


def _refuse(value: object) -> str:
    raise TypeError(f"not a JSON value: {value!r}")
