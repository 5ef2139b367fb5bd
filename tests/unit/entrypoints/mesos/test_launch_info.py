"""Launch information: found, read, and changed by one insertion."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_gpu_hook.entrypoints.mesos import launch_info
from oci_gpu_hook.entrypoints.mesos.launch_info import Call, Place

COMMAND = '{"shell": false, "value": "/front", "arguments": ["front"]}'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def members(text):
    """Return the members of launch information that is an object."""
    found = launch_info.members(text)
    assert found is not None
    return found


NAMES = st.sampled_from(["pre_exec_commands", "environment", "rootfs"]) | st.text()


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ((b"m", b"launch", b"--launch_info=A"), (b"MESOS_CONTAINERIZER_LAUNCH_INFO=B",), (True, 2, "A")),
        ((b"m", b"launch"), (b"X=1", b"MESOS_CONTAINERIZER_LAUNCH_INFO=B"), (False, 1, "B")),
        ((b"m", b"launch", b"--launch_info=A", b"--launch_info=C"), (), (True, 3, "C")),
        ((b"m", b"launch", b"--launch_infos=A"), (b"MESOS_CONTAINERIZER_LAUNCH_INFO_=B",), None),
        ((b"m", b"launch", b"--launch_info=\xff"), (), (True, 2, "\udcff")),
    ],
)
def test_place(arguments, environment, expected):
    call = Call(arguments=arguments, environment=environment)
    place = launch_info.place_of(b"launch_info", call)
    assert expected == (place and (place.by_argument, place.index, launch_info.value_at(place, call)))
    if place:
        assert launch_info.with_value(place, launch_info.value_at(place, call), call) == call


def test_other_value():
    call = Call(arguments=(b"m", b"--launch_info=A", b"z"), environment=(b"A=1",))
    place = Place(by_argument=True, index=1, prefix=b"--launch_info=")
    assert launch_info.with_value(place, "\udcffü", call).arguments == (
        b"m",
        b"--launch_info=" + b"\xff\xc3\xbc",
        b"z",
    )


@given(st.dictionaries(NAMES, JSON, max_size=6), st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
def test_members_are_those_of_the_standard_library(document, separators):
    text = json.dumps(document, separators=separators)
    found = members(f" {text}\n")
    assert {name: member.value for name, member in found.items()} == document
    assert all(json.loads(f" {text}\n"[member.start : member.end]) == member.value for member in found.values())


@given(st.text() | st.text(alphabet='{}[]",: \\u0a1tn', max_size=30))
def test_what_is_no_object_is_none(text):
    try:
        expected = json.loads(text)
    except (ValueError, RecursionError):
        expected = None
    if isinstance(expected, dict) and "NaN" not in text and "Infinity" not in text:
        assert {name: member.value for name, member in members(text).items()} == expected
    elif not isinstance(expected, dict):
        assert launch_info.members(text) is None


@pytest.mark.parametrize(
    "text", ['{"a":}', '{"a":', '{"a": ,', '{"a": x}', '{"a": [}', '{"a": "', '{"a": -}', '{"a":1,"b":}']
)
def test_a_value_that_is_missing_makes_it_no_object(text):
    """The scanner ends these by StopIteration, which a generator turns into another error."""
    assert launch_info.members(text) is None


@given(JSON, st.integers(0, 200), st.sampled_from(["", "}", "]", ",", ":", '"', "\\", "-", "t", "\ud800", "\0"]))
def test_what_is_cut_or_spoilt_anywhere_is_an_object_or_none(value, at, spoilt):
    text = json.dumps({"a": value, "b": [value]})
    for changed in (text[:at], text[:at] + spoilt + text[at:], text[:at] + spoilt + text[at + 1 :]):
        assert launch_info.members(changed) is None or isinstance(json.loads(changed), dict)


@given(st.dictionaries(NAMES, JSON, max_size=6), st.lists(JSON, max_size=3) | st.none(), st.booleans())
def test_a_command_comes_last_and_all_else_stays(document, commands, compact):
    document.pop("pre_exec_commands", None)
    if commands is not None:
        document["pre_exec_commands"] = commands
    text = json.dumps(document, separators=(",", ":") if compact else None)
    changed = launch_info.with_command(text, members(text), COMMAND)
    assert json.loads(changed) == {**document, "pre_exec_commands": [*(commands or []), json.loads(COMMAND)]}
    at = next((i for i, (a, b) in enumerate(zip(text, changed, strict=False)) if a != b), len(text))
    assert changed.endswith(text[at:])


def test_of_a_name_that_is_there_twice_the_last_counts():
    text = '{"rootfs": "/a", "pre_exec_commands": [], "rootfs": "/b", "pre_exec_commands": [1]}'
    found = members(text)
    assert found["rootfs"].value == "/b"
    assert launch_info.with_command(text, found, "2") == text.replace("[1]", "[1,2]")


def test_environment_has_no_secrets():
    variables = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "2", "type": "VALUE"},
        {"name": "C", "type": "SECRET", "secret": {"type": "VALUE", "value": {"data": "eA=="}}},
        {"name": "D", "value": "3", "type": "SECRET"},
        {"name": "A", "value": "4"},
    ]
    found = members(json.dumps({"environment": {"variables": variables}}))
    assert launch_info.environment(found) == ("A=1", "B=2", "A=4")


VARIABLES = st.lists(st.dictionaries(NAMES, JSON, max_size=3), max_size=3)


@given(
    st.dictionaries(NAMES, JSON, max_size=4),
    st.none() | st.dictionaries(NAMES, JSON, max_size=3) | st.builds(lambda found: {"variables": found}, VARIABLES),
    st.booleans(),
)
def test_variables_come_last_and_all_else_stays(document, environment, compact):
    document.pop("environment", None)
    if environment is not None:
        document["environment"] = environment
    text = json.dumps(document, separators=(",", ":") if compact else None)
    changed = launch_info.with_variables(text, ("A=1", 'B=x=\u00e9"', "C="))
    there = (environment or {}).get("variables")
    expected = [{"name": "A", "value": "1"}, {"name": "B", "value": 'x=\u00e9"'}, {"name": "C", "value": ""}]
    expected = [{**each, "type": "VALUE"} for each in expected]
    now = json.loads(changed)
    if there is None or isinstance(there, list):
        assert now == {**document, "environment": {**(environment or {}), "variables": [*(there or []), *expected]}}
    assert launch_info.environment(members(changed))[-3:] == ("A=1", 'B=x=\u00e9"', "C=")
    assert launch_info.with_variables(text, ()) == text


def test_groups_are_added_to_those_that_are_there():
    assert json.loads(launch_info.with_groups('{"a": 1}', (5, 7))) == {"a": 1, "supplementary_groups": [5, 7]}
    text = '{"supplementary_groups": [3]}'
    assert json.loads(launch_info.with_groups(text, (5,))) == {"supplementary_groups": [3, 5]}
    assert launch_info.with_groups(text, ()) == text
