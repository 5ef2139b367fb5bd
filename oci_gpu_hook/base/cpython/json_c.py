"""The C half of `json`, without `json` itself; where an interpreter has it not, `json`.

What it saves a start: see "What leans on CPython's inside" in docs/performance.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

# What `scanner` and `scan_string` raise for text that is no JSON. SystemError: `_json` makes its error by a look at
# json.decoder, which is not imported.
REFUSALS: Final = (ValueError, StopIteration, SystemError)


def refuse_constant(name: str) -> float:
    """Raise ValueError for NaN and Infinity, which JSON has not (RFC 8259)."""
    raise ValueError(f"{name} is no JSON value")


class _Context:
    """What `_json.make_scanner` asks of a decoder (CPython Modules/_json.c, scanner_new)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(refuse_constant)


def scanner() -> Callable[[str, int], tuple[Any, int]]:
    """Return what reads the JSON value at a place in a text, and tells where it ends. It raises REFUSALS."""
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
    """Return the JSON string that begins behind the quotation mark before `start`, and its end. Raises REFUSALS."""
    try:
        from _json import scanstring
    except ImportError:
        from json.decoder import scanstring  # type: ignore[no-redef, attr-defined]
    found: tuple[str, int] = scanstring(text, start, True)
    return found


def encode(value: object) -> str:
    """Return a JSON value as ASCII. Raises TypeError for what is none, ValueError for infinite numbers."""
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:
        from json import JSONEncoder

        return JSONEncoder(check_circular=False, allow_nan=False, default=_refuse).encode(value)
    # (markers, default, encoder, indent, key separator, item separator, sort keys, skip keys, allow NaN)
    made = make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, False)
    return "".join(made(value, 0))


def _refuse(value: object) -> str:
    raise TypeError(f"no JSON value: {value!r}")
