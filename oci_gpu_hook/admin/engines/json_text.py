"""Changes one member of a JSON file as a person would in an editor: every other byte stays.

Parsing and dumping would keep the order of members, but not their layout. The standard library's decoder finds the
values; only the span of the changed member is rewritten.
"""

from __future__ import annotations

import json  # noqa: TID253
from json.decoder import scanstring  # type: ignore[attr-defined]  # noqa: TID253

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

_WHITESPACE: Final = " \t\r\n"
_DECODER: Final = json.JSONDecoder()


class Member(Record):
    """A member of an object: where its key begins, and the span of its value."""

    key: str
    start: int
    value: int
    end: int


class Object(Record):
    """An object: the positions of its braces, and its members."""

    start: int
    end: int
    members: tuple[Member, ...]

    def find(self, key: str) -> Member | None:
        """Return the member with that name."""
        return next((member for member in self.members if member.key == key), None)


def load(text: str) -> dict[str, Any]:
    """Return the object in a text, {} for an empty text. Raises ValueError, also for a duplicate key."""
    if not text.strip(_WHITESPACE):
        return {}
    document = json.loads(text, object_pairs_hook=_unique)
    if type(document) is not dict:
        raise ValueError("is not a JSON object")
    return document


def with_member(text: str, path: Sequence[str], value: object) -> str:
    """Return the text of an object with the member at a path of keys set. Raises ValueError if that is impossible."""
    if not text.strip(_WHITESPACE):
        text = "{}\n"
    unit = _unit(text)
    found = _object(text, _skip(text, 0))
    for depth, key in enumerate(path):
        member = found.find(key)
        if member is None:
            for outer in reversed(path[depth + 1 :]):
                value = {outer: value}
            return _inserted(text, found, key, value, unit)
        if depth == len(path) - 1:
            written = _written(value, _indentation(text, member.start), unit, text)
            return text[: member.value] + written + text[member.end :]
        if text[member.value] != "{":
            raise ValueError(f"{key} is not a JSON object")
        found = _object(text, member.value)
    raise ValueError("no path")


def without_member(text: str, path: Sequence[str]) -> str:
    """Return the text without the member at a path of keys, and without objects that are then empty."""
    objects = [_object(text, _skip(text, 0))]
    for key in path[:-1]:
        member = objects[-1].find(key)
        if member is None or text[member.value] != "{":
            return text
        objects.append(_object(text, member.value))
    if objects[-1].find(path[-1]) is None:
        return text
    depth = len(path) - 1
    while depth and len(objects[depth].members) == 1:
        depth -= 1
    return _removed(text, objects[depth], path[depth])


def _removed(text: str, found: Object, key: str) -> str:
    index = next(i for i, member in enumerate(found.members) if member.key == key)
    member = found.members[index]
    if len(found.members) == 1:
        return text[: found.start] + "{}" + text[found.end + 1 :]
    if index:
        return text[: found.members[index - 1].end] + text[member.end :]
    return text[: member.start] + text[found.members[1].start :]


def _inserted(text: str, found: Object, key: str, value: object, unit: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    if not found.members:
        outer = _indentation(text, found.start)
        inner = outer + unit
        body = f"{newline}{inner}{json.dumps(key)}: {_written(value, inner, unit, text)}{newline}{outer}"
        return text[: found.start + 1] + body + text[found.end :]
    last = found.members[-1]
    if "\n" not in text[found.start : found.members[0].start]:
        return text[: last.end] + f", {json.dumps(key)}: {json.dumps(value)}" + text[last.end :]
    indentation = _indentation(text, last.start)
    member = f"{json.dumps(key)}: {_written(value, indentation, unit, text)}"
    return f"{text[: last.end]},{newline}{indentation}{member}{text[last.end :]}"


def _written(value: object, indentation: str, unit: str, text: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    return json.dumps(value, indent=unit).replace("\n", newline + indentation)


def _object(text: str, start: int) -> Object:
    """Scan the object at `start` of a text that is known to be JSON."""
    members = []
    at = _skip(text, start + 1)
    while text[at] != "}":
        key, after = scanstring(text, at + 1)
        value = _skip(text, _skip(text, after) + 1)
        _, end = _DECODER.raw_decode(text, value)
        members.append(Member(key=key, start=at, value=value, end=end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return Object(start=start, end=at, members=tuple(members))


def _skip(text: str, at: int) -> int:
    while text[at] in _WHITESPACE:
        at += 1
    return at


def _indentation(text: str, at: int) -> str:
    """Return the white space at the beginning of the line of a position."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str) -> str:
    """Return the text's unit of indentation: that of its first member, or four blanks."""
    found = _object(text, _skip(text, 0))
    if found.members and "\n" in text[found.start : found.members[0].start]:
        return _indentation(text, found.members[0].start) or "    "
    return "    "


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"has the member {twice!r} twice")
    return found
