"""JSON from outside: bounded, and read without importing `json`, which costs as much as the interpreter itself."""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

_WHITESPACE: Final = " \t\n\r"


class _Scanner:
    """What `_json.make_scanner` asks of a decoder (CPython Modules/_json.c, scanner_new)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"{name} is no JSON value")


SCANNER: Final = _Scanner()


def parse(data: bytes, what: str) -> Any:
    """Return the JSON value that `data` holds, and nothing but it. Raises InvalidInput."""
    remedy = "hand over one JSON document in UTF-8 (RFC 8259)"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(what, f"is not UTF-8 at byte {error.start}", remedy) from None
    if not text.strip(_WHITESPACE):
        raise InvalidInput(what, "is empty", remedy)
    try:
        return _scan(text)
    except RecursionError:
        raise InvalidInput(what, "is nested too deeply", remedy) from None
    except (ValueError, StopIteration, SystemError):  # SystemError: _json finds no json.decoder to raise its error from
        raise InvalidInput(what, f"is not JSON: {_complaint(text)}", remedy) from None


def _scan(text: str) -> Any:
    from _json import make_scanner  # what json.loads runs on, in every CPython

    scan: Callable[[str, int], tuple[Any, int]] = make_scanner(SCANNER)  # type: ignore[arg-type]
    value, end = scan(text, len(text) - len(text.lstrip(_WHITESPACE)))
    if text[end:].strip(_WHITESPACE):
        raise ValueError("trailing data")
    return value


def _complaint(text: str) -> str:
    """Say what is wrong in the standard library's words; by now the cost of importing it does not matter."""
    import json

    try:
        json.loads(text, parse_constant=SCANNER.parse_constant)
    except ValueError as error:
        return str(error)
    return "the fast scanner refused it"


def member(value: object, name: str, kind: type, what: str, default: Any = None) -> Any:
    """Return `value[name]` of a JSON object, or `default` where it is absent or null.

    Raises InvalidInput when `value` is no object or the member is not of the JSON type that `kind` stands for.
    """
    if type(value) is not dict:
        raise InvalidInput(what, f"expected a JSON object, found {quoted(value)}", "see the OCI runtime specification")
    found = value.get(name)
    if found is None:
        return default
    if type(found) is not kind:
        names = {dict: "an object", list: "an array", str: "a string", int: "an integer", bool: "true or false"}
        why = f"{name}: expected {names[kind]}, found {quoted(found)}"
        raise InvalidInput(what, why, "see the OCI runtime specification")
    return found


def dump(value: object) -> bytes:
    """Return a JSON value (dict with string keys, list, tuple, str, number, bool, None) as a line of ASCII.

    Raises TypeError for what is none, ValueError for infinite numbers.
    """
    from _json import encode_basestring_ascii, make_encoder  # what json.dumps runs on, in every CPython

    # (markers, default, encoder, indent, key separator, item separator, sort keys, skip keys, allow NaN)
    encode = make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, False)
    return "".join(encode(value, 0)).encode("ascii")


def _refuse(value: object) -> str:
    raise TypeError(f"no JSON value: {value!r}")
