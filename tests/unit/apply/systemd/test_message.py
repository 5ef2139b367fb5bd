"""Messages of D-Bus in bytes. What a real systemd makes of them is tried in tests/systemd."""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as some

from oci_gpu_hook.apply.systemd import message

UNIT = r"docker-a\x2db.scope"


class Reader:
    """Reads values in the order of their types: written from the specification, and not from the code under test."""

    def __init__(self, data, order=sys.byteorder):
        self.data = data
        self.order = order
        self.at = 0

    def align(self, to):
        while self.at % to:
            assert self.data[self.at] == 0, "padding is of zeros"
            self.at += 1

    def take(self, count):
        self.at += count
        assert self.at <= len(self.data)
        return self.data[self.at - count : self.at]

    def number(self):
        self.align(4)
        return int.from_bytes(self.take(4), self.order)

    def text(self, size):
        found = self.take(size).decode()
        assert self.take(1) == b"\0"
        return found

    def value(self, kind):
        plain = {
            **dict.fromkeys("uib", self.number),
            **dict.fromkeys("so", lambda: self.text(self.number())),
            "g": lambda: self.text(self.take(1)[0]),
            "v": lambda: self.value(self.value("g")),
            "y": lambda: self.take(1)[0],
        }
        if kind in plain:
            return plain[kind]()
        if kind[0] == "a":
            end = self.number()
            self.align(8 if kind[1] in "({" else 4)
            end += self.at
            items = []
            while self.at < end:
                items.append(self.value(kind[1:]))
            assert self.at == end
            return items
        assert kind[0] == "("
        self.align(8)
        return tuple(self.value(each) for each in types(kind[1:-1]))


def types(signature):
    """Return the complete types in a signature."""
    found, depth, start = [], 0, 0
    for at, letter in enumerate(signature, 1):
        depth += (letter == "(") - (letter == ")")
        if not depth and letter != "a":
            found.append(signature[start:at])
            start = at
    return found


def head_of(data):
    reader = Reader(data, "little" if data[:1] == b"l" else "big")
    found = [reader.value(kind) for kind in "yyyyuu"]
    fields = dict(reader.value("a(yv)"))
    reader.align(8)
    return found, fields, reader


def reply(kind, fields, body=b"", order="little"):
    """Make a message with these header fields: (code, signature, value)."""
    letter = b"l" if order == "little" else b"B"
    data = bytearray(letter + bytes((kind, 0, 1)) + len(body).to_bytes(4, order) + (9).to_bytes(4, order) + bytes(4))
    for code, signature, value in fields:
        data += bytes(-len(data) % 8) + bytes((code, 1)) + signature.encode() + b"\0"
        if signature == "u":
            data += value.to_bytes(4, order)
        elif signature == "g":
            data += bytes((len(value),)) + value.encode() + b"\0"
        else:
            data += len(value).to_bytes(4, order) + value.encode() + b"\0"
    data[12:16] = (len(data) - 16).to_bytes(4, order)
    return bytes(data + bytes(-len(data) % 8) + body)


@given(
    some.text(alphabet="abcXYZ019:-_.\\@", min_size=1, max_size=60),
    some.lists(some.tuples(some.integers(0, 4095), some.integers(0, 1 << 20)), max_size=40),
)
def test_a_call_can_be_read_by_the_specification(unit, nodes):
    call = message.allowing_devices(unit, nodes)
    (order, kind, flags, version, size, serial), fields, reader = head_of(call)
    assert (chr(order), kind, flags, version, serial) == ("l" if sys.byteorder == "little" else "B", 1, 0, 1, 1)
    assert fields == {
        1: "/org/freedesktop/systemd1",
        2: "org.freedesktop.systemd1.Manager",
        3: "SetUnitProperties",
        6: "org.freedesktop.systemd1",
        8: "sba(sv)",
    }
    assert size == len(call) - reader.at
    body = Reader(call[reader.at :])
    assert body.value("s") == unit
    assert body.value("b") == 1, "until the unit ends, and not for ever"
    end = body.number()
    body.align(8)
    end += body.at
    assert body.value("s") == "DeviceAllow"
    assert body.value("g") == "a(ss)"
    assert body.value("a(ss)") == [(f"/dev/char/{major}:{minor}", "rw") for major, minor in nodes]
    assert body.at == end == size
    assert message.size(call[: message.HEAD]) == len(call)


WORDS = some.lists(some.text(alphabet="abc/-=", min_size=1, max_size=20), min_size=1, max_size=5)


@given(WORDS, some.dictionaries(some.text(alphabet="ABC_", min_size=1), some.text(alphabet="xyz/,", max_size=50)))
def test_a_service_can_be_read_by_the_specification(command, environment):
    call = message.starting_service("a.service", command, environment)
    (*_, size, _), fields, reader = head_of(call)
    assert (fields[3], fields[8]) == ("StartTransientUnit", "ssa(sv)a(sa(sv))")
    body = Reader(call[reader.at :])
    assert (body.value("s"), body.value("s")) == ("a.service", "fail")
    assert dict(body.value("a(sv)")) == {
        "Description": "MPS daemon of a container, by oci-gpu-hook",
        "Type": "forking",
        "CollectMode": "inactive-or-failed",
        "KillSignal": 9,
        "Environment": [f"{name}={value}" for name, value in environment.items()],
        "ExecStart": [(command[0], command, 0)],
    }
    assert body.value("a(sa(sv))") == []
    assert body.at == size
    assert message.size(call[: message.HEAD]) == len(call)


def test_a_stop_can_be_read_by_the_specification():
    call = message.stopping("a.service")
    _, fields, reader = head_of(call)
    body = Reader(call[reader.at :])
    assert (fields[3], fields[8], body.value("s"), body.value("s")) == ("StopUnit", "ss", "a.service", "replace")


@pytest.mark.parametrize("order", ["little", "big"])
class TestAnswers:
    def test_done(self, order):
        done = reply(2, [(5, "u", 1), (7, "s", "org.freedesktop.systemd1")], order=order)
        assert message.size(done[: message.HEAD]) == len(done)
        assert message.answer(done) == ""

    def test_an_error(self, order):
        name = "org.freedesktop.systemd1.NoSuchUnit"
        error = reply(3, [(4, "s", name), (5, "u", 1), (8, "g", "s")], b"\4\0\0\0what\0", order=order)
        assert message.size(error[: message.HEAD]) == len(error)
        assert message.answer(error) == name

    def test_an_error_without_a_name(self, order):
        assert message.answer(reply(3, [(5, "u", 1)], order=order))

    def test_what_is_for_another(self, order):
        assert message.answer(reply(2, [(5, "u", 2)], order=order)) is None
        assert message.answer(reply(2, [], order=order)) is None

    def test_a_signal(self, order):
        signal = [(1, "o", "/org/freedesktop/systemd1"), (2, "s", "org.freedesktop.DBus.Properties"), (5, "u", 1)]
        assert message.answer(reply(4, signal, order=order)) is None


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\n", b"l\2\0\2" + bytes(12), b"\0" * 16, b"l\2\0\1" + b"\xff" * 12])
def test_what_is_no_message_is_refused(head):
    with pytest.raises(ValueError, match="it sent"):
        message.size(head)


@given(some.binary(min_size=12, max_size=300), some.sampled_from([b"l\2\0\1", b"B\3\0\1"]))
def test_damage_is_an_error_in_one_kind(data, start):
    head = start + data[:12]
    with suppress(ValueError):
        message.size(head)
        message.answer(head + data[12:])
