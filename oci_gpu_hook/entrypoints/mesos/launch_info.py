"""Reads and changes the input of `mesos-containerizer launch`: protobuf's JSON form of ContainerLaunchInfo.

The agent passes it in a variable, mesos-executor in an argument; if both are present the argument counts, as with
Mesos' own flags (src/slave/containerizer/mesos/launch.cpp, 3rdparty/stout/include/stout/flags/flags.hpp of Mesos 1.11).
The only change is one insertion into its text, so members that another version of Mesos adds stay unchanged.
"""

from __future__ import annotations

from oci_gpu_hook.base.cpython import json_c
from oci_gpu_hook.base.document import dump
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

_VARIABLE: Final = b"MESOS_CONTAINERIZER_"
_FLAG: Final = b"--"
_WHITESPACE: Final = " \t\n\r"
_COMMANDS: Final = "pre_exec_commands"
_GROUPS: Final = "supplementary_groups"


class Call(Record):
    """A call of mesos-containerizer: its arguments with its name first, and the entries of its environment."""

    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]


class Place(Record):
    """The place of a flag in a call: the index of its argument or of its entry in the environment."""

    by_argument: bool
    index: int
    prefix: bytes


class Member(Record):
    """A member of the launch information: its value, and the value's span in the text."""

    value: Any
    start: int
    end: int


def place_of(flag: bytes, call: Call) -> Place | None:
    """Return the place where a flag is set, None if it is not."""
    sources = ((True, call.arguments, _FLAG + flag + b"="), (False, call.environment, _VARIABLE + flag.upper() + b"="))
    for by_argument, texts, prefix in sources:
        for index in reversed(range(len(texts))):
            if texts[index].startswith(prefix):
                return Place(by_argument=by_argument, index=index, prefix=prefix)
    return None


def value_at(place: Place, call: Call) -> str:
    """Return the value of a flag; bytes that are not UTF-8 become lone surrogates."""
    texts = call.arguments if place.by_argument else call.environment
    return texts[place.index][len(place.prefix) :].decode("utf-8", "surrogateescape")


def with_value(place: Place, text: str, call: Call) -> Call:
    """Return the call with another value of a flag."""

    def replaced(texts: Sequence[bytes]) -> tuple[bytes, ...]:
        value = place.prefix + text.encode("utf-8", "surrogateescape")
        return (*texts[: place.index], value, *texts[place.index + 1 :])

    if place.by_argument:
        return Call(arguments=replaced(call.arguments), environment=call.environment)
    return Call(arguments=call.arguments, environment=replaced(call.environment))


def members(text: str) -> dict[str, Member] | None:
    """Return the members of the launch information by name, None where the text is not a JSON object.

    If a name occurs twice the last one counts, as in Mesos' parser.
    """
    try:
        return dict(_members(text))
    except (*json_c.REFUSALS, IndexError, RecursionError):
        return None


def with_command(text: str, found: dict[str, Member], command: str) -> str:
    """Return the launch information with a command (JSON) added after all others that precede the container's own."""
    return _with_items(text, found, _COMMANDS, command)


def with_variables(text: str, entries: Sequence[str]) -> str:
    """Return the launch information with NAME=VALUE entries added to the environment: of one name the last counts."""
    if not entries:
        return text
    parts = [entry.partition("=") for entry in entries]
    items = ",".join(_dumped({"name": name, "type": "VALUE", "value": value}) for name, _, value in parts)
    found = members(text) or {}
    there = found.get("environment")
    if there is None or type(there.value) is not dict:
        return _with_member(text, found, f'"environment":{{"variables":[{items}]}}')
    inner = text[there.start : there.end]
    return text[: there.start] + _with_items(inner, members(inner) or {}, "variables", items) + text[there.end :]


def with_groups(text: str, groups: Sequence[int]) -> str:
    """Return the launch information with supplementary groups added."""
    return _with_items(text, members(text) or {}, _GROUPS, ",".join(map(str, groups))) if groups else text


def environment(found: dict[str, Member]) -> tuple[str, ...]:
    """Return the container's environment as NAME=VALUE, without secrets, whose values are absent."""
    variables = _member(found["environment"].value, "variables") if "environment" in found else None
    entries = []
    for variable in variables if type(variables) is list else ():
        name, value = _member(variable, "name"), _member(variable, "value")
        if type(name) is str and type(value) is str and _member(variable, "type") in (None, "VALUE"):
            entries.append(f"{name}={value}")
    return tuple(entries)


def text_of(found: dict[str, Member], name: str) -> str:
    """Return a member that is a string, "" if it is absent or not a string."""
    value = found[name].value if name in found else ""
    return value if type(value) is str else ""


def list_of(found: dict[str, Member], name: str) -> list[Any]:
    """Return a member that is a list, [] if it is absent or not a list."""
    value = found[name].value if name in found else []
    return value if type(value) is list else []


def _with_items(text: str, found: dict[str, Member], name: str, items: str) -> str:
    """Return an object's text with items (JSON) added at the end of one of its lists, which is made where it is not."""
    there = found.get(name)
    if there is None or type(there.value) is not list:
        return _with_member(text, found, f'"{name}":[{items}]')
    separator = "," if there.value else ""
    return text[: there.end - 1] + separator + items + text[there.end - 1 :]


def _with_member(text: str, found: dict[str, Member], member: str) -> str:
    start = text.index("{") + 1
    return text[:start] + member + ("," if found else "") + text[start:]


def _dumped(value: object) -> str:
    return dump(value).decode("ascii")


def _members(text: str) -> list[tuple[str, Member]]:
    """Return the members. Not a generator, in which the scanner's StopIteration would become another error."""
    scan = json_c.scanner()
    at = _skip(text, 0)
    if text[at] != "{":
        raise ValueError("no object")
    at = _skip(text, at + 1)
    if text[at] == "}":
        _expect_end(text, at + 1)
        return []
    found = []
    while True:
        if text[at] != '"':
            raise ValueError("no name")
        name, at = json_c.scan_string(text, at + 1)
        at = _skip(text, at)
        if text[at] != ":":
            raise ValueError("no value")
        start = _skip(text, at + 1)
        value, end = scan(text, start)
        found.append((name, Member(value=value, start=start, end=end)))
        at = _skip(text, end)
        if text[at] == "}":
            _expect_end(text, at + 1)
            return found
        if text[at] != ",":
            raise ValueError("no separator")
        at = _skip(text, at + 1)


def _expect_end(text: str, at: int) -> None:
    if text[at:].strip(_WHITESPACE):
        raise ValueError("more than an object")


def _skip(text: str, at: int) -> int:
    while text[at] in _WHITESPACE:
        at += 1
    return at


def _member(value: object, name: str) -> Any:
    return value.get(name) if type(value) is dict else None
