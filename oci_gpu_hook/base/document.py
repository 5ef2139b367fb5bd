"""JSON from outside: bounded, and read without importing `json`, which costs as much as the interpreter itself."""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.cpython import json_c
from oci_gpu_hook.base.errors import InvalidInput, TooLarge, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_WHITESPACE: Final = " \t\n\r"


def parse(data: bytes, what: str) -> Any:
    """Return the one JSON value that `data` holds. Raises InvalidInput, TooLarge.

    The caller limits the size of `data`: every three bytes of it can be a value that takes 64 bytes of memory.
    """
    if not has_few_items(data):
        why = f"has more than {limits.JSON_ITEMS} values"
        raise TooLarge(what, why, "make it smaller; this limit guards the host")
    remedy = "hand over one JSON document in UTF-8 (RFC 8259)"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(what, f"is not UTF-8 at byte {error.start}", remedy, "OGH1002") from None
    if not text.strip(_WHITESPACE):
        raise InvalidInput(what, "is empty", remedy, "OGH1002")
    try:
        return _scan(text)
    except RecursionError:
        raise InvalidInput(what, "is nested too deeply", remedy, "OGH1002") from None
    except json_c.REFUSALS:
        raise InvalidInput(what, f"is not JSON: {_complaint(text)}", remedy, "OGH1002") from None


def has_few_items(data: bytes) -> bool:
    """Tell whether `parse` accepts that many values. Commas in strings count too. Cheap: nothing is parsed.

    Usual documents have fewer bytes than that; to count in them would take half as long as to parse them.
    """
    most = limits.JSON_ITEMS
    return len(data) <= most or data.count(b",") + data.count(b"[") + data.count(b"{") <= most


def _scan(text: str) -> Any:
    value, end = json_c.scanner()(text, len(text) - len(text.lstrip(_WHITESPACE)))
    if text[end:].strip(_WHITESPACE):
        raise ValueError("trailing data")
    return value


def _complaint(text: str) -> str:
    """Return the standard library's error message; after a failure the cost of importing it does not matter."""
    import json

    try:
        json.loads(text, parse_constant=json_c.refuse_constant)
    except ValueError as error:
        return str(error)
    return "the fast scanner refused it"


def member(value: object, name: str, kind: type, what: str, default: Any = None) -> Any:
    """Return `value[name]` of a JSON object, or `default` where it is absent or null.

    Raises InvalidInput when `value` is not an object or the member is not of the JSON type that `kind` stands for.
    """
    if type(value) is not dict:
        raise InvalidInput(
            what, f"expected a JSON object, found {quoted(value)}", "see the OCI runtime specification", "OGH1002"
        )
    found = value.get(name)
    if found is None:
        return default
    if type(found) is not kind:
        names = {dict: "an object", list: "an array", str: "a string", int: "an integer", bool: "true or false"}
        why = f"{name}: expected {names[kind]}, found {quoted(found)}"
        raise InvalidInput(what, why, "see the OCI runtime specification", "OGH1002")
    return found


def dump(value: object) -> bytes:
    """Return a value (dict with string keys, list, tuple, str, number, bool, None) as a line of JSON in ASCII.

    Raises TypeError for any other value, ValueError for infinite numbers.
    """
    return json_c.encode(value).encode("ascii")
