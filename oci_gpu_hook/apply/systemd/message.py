"""Writes and reads D-Bus messages, as far as one call to systemd and its signals need them.

D-Bus specification, "Marshaling (Wire Format)" and "Message Protocol": numbers are aligned to multiples of their size,
counted from the beginning of the message, and so are the contents of arrays and structs.
"""

from __future__ import annotations

import sys

from oci_gpu_hook.apply.systemd.units import device_path
from oci_gpu_hook.base import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Final, Literal

    from oci_gpu_hook.devices.edits import Numbers as Node

HEAD: Final = 16  # the first bytes of a message, which say how long it is
LARGEST: Final = limits.SYSTEMD_MESSAGE
_SERIAL: Final = 1  # of the call, the only one of its connection
_CALL: Final = 1
_RETURN: Final = 2
_ERROR: Final = 3
_SIGNAL: Final = 4
_ORDERS: Final[dict[int, Literal["little", "big"]]] = {ord("l"): "little", ord("B"): "big"}
_OWN_ORDER: Final = b"l" if sys.byteorder == "little" else b"B"
_SIGKILL: Final = 9
_STRUCT: Final = 8  # the alignment of structs
# codes of header fields
_PATH: Final = 1
_INTERFACE: Final = 2
_MEMBER: Final = 3
_ERROR_NAME: Final = 4
_REPLY_SERIAL: Final = 5
_DESTINATION: Final = 6
_SIGNATURE: Final = 8


def allowing_devices(unit: str, nodes: Sequence[Node]) -> bytes:
    """Return the call that permits a unit to read and write devices, in addition, while it runs.

    org.freedesktop.systemd1(5): SetUnitProperties(unit, runtime, [("DeviceAllow", [(node, access), …])]).
    """
    return _setting(unit, [[(device_path(node), "rw") for node in nodes]])


def allowing_only(unit: str, allowed: Mapping[str, str]) -> bytes:
    """Return the call that permits a unit these devices and no others while it runs. allowed: access ("rwm") by node.

    systemd.resource-control(5): an empty DeviceAllow= cancels those before it.
    """
    return _setting(unit, [[], [*allowed.items()]])


def starting_service(unit: str, command: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Return the call that starts a transient service, whose command forks.

    StartTransientUnit(unit, "fail", [(property, value), …], []). Nothing is left of it when it ends, however it ends.
    """
    body = _Writer()
    body.string(unit)
    body.string("fail")
    properties = body.begin_array()
    texts = {"Description": "MPS daemon of a container, by oci-gpu-hook", "Type": "forking"}
    for name, text in {**texts, "CollectMode": "inactive-or-failed"}.items():
        body.align(_STRUCT)
        body.string(name)
        body.signature("s")
        body.string(text)
    body.align(_STRUCT)
    body.string("KillSignal")
    body.signature("i")
    body.number(_SIGKILL)
    body.align(_STRUCT)
    body.string("Environment")
    body.signature("as")
    body.strings([f"{name}={value}" for name, value in environment.items()])
    body.align(_STRUCT)
    body.string("ExecStart")
    body.signature("a(sasb)")
    commands = body.begin_array()
    body.string(command[0])
    body.strings(command)
    body.number(0)  # a failure is one
    body.end_array(commands)
    body.end_array(properties)
    body.end_array(body.begin_array())
    return _call("StartTransientUnit", "ssa(sv)a(sa(sv))", body)


def stopping(unit: str) -> bytes:
    """Return the call that stops a unit: StopUnit(unit, "replace")."""
    body = _Writer()
    body.string(unit)
    body.string("replace")
    return _call("StopUnit", "ss", body)


def _setting(unit: str, values: Sequence[Sequence[tuple[str, str]]]) -> bytes:
    """Return the call that sets DeviceAllow to each of the values in turn."""
    body = _Writer()
    body.string(unit)
    body.number(1)
    properties = body.begin_array()
    for value in values:
        body.align(_STRUCT)
        body.string("DeviceAllow")
        body.signature("a(ss)")
        devices = body.begin_array()
        for node, access in value:
            body.align(_STRUCT)
            body.string(node)
            body.string(access)
        body.end_array(devices)
    body.end_array(properties)
    return _call("SetUnitProperties", "sba(sv)", body)


def _call(member: str, signature: str, body: _Writer) -> bytes:
    """Return the call of a method of systemd's manager."""
    head = _Writer()
    head.data += _OWN_ORDER + bytes((_CALL, 0, 1))  # no flags; version 1 of the protocol
    head.number(len(body.data))
    head.number(_SERIAL)
    fields = head.begin_array()
    head.field(_PATH, "o", "/org/freedesktop/systemd1")
    head.field(_DESTINATION, "s", "org.freedesktop.systemd1")
    head.field(_INTERFACE, "s", "org.freedesktop.systemd1.Manager")
    head.field(_MEMBER, "s", member)
    head.field(_SIGNATURE, "g", signature)
    head.end_array(fields)
    head.align(_STRUCT)
    return bytes(head.data + body.data)


def size(head: bytes) -> int:
    """Return the size of the message that begins with these `HEAD` bytes. Raises ValueError if they are invalid."""
    order = _ORDERS.get(head[0])
    if order is None or head[3] != 1:
        raise ValueError("it sent something that is not a D-Bus message")
    found = _aligned(HEAD + int.from_bytes(head[12:16], order), _STRUCT) + int.from_bytes(head[4:8], order)
    if found > LARGEST:
        raise ValueError(f"it sent a message of {found} bytes")
    return found


def answer(message: bytes) -> str | None:
    """Return a message's answer to the call: "" for done, or an error's name; None for another message.

    A connection also receives systemd's signals. Raises ValueError if the message is damaged.
    """
    if message[1] not in (_RETURN, _ERROR):
        return None
    try:
        fields = dict(_fields(message))
    except IndexError:
        raise ValueError("it sent a damaged message") from None
    if fields.get(_REPLY_SERIAL) != _SERIAL:
        return None
    return "" if message[1] == _RETURN else str(fields.get(_ERROR_NAME, "an error without a name"))


def signal(message: bytes) -> tuple[str, str]:
    """Return the path of the object that sends a signal, and the signal's name; ("", "") for another message.

    Raises ValueError if the message is damaged.
    """
    if message[1] != _SIGNAL:
        return "", ""
    try:
        fields = dict(_fields(message))
    except IndexError:
        raise ValueError("it sent a damaged message") from None
    return str(fields.get(_PATH, "")), str(fields.get(_MEMBER, ""))


class _Writer:
    """A buffer to which values are added, each at its alignment."""

    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, to: int) -> None:
        self.data += bytes(-len(self.data) % to)

    def number(self, value: int) -> None:
        self.align(4)
        self.data += value.to_bytes(4, sys.byteorder)

    def string(self, text: str) -> None:
        encoded = text.encode()
        self.number(len(encoded))
        self.data += encoded + b"\0"

    def strings(self, texts: Sequence[str]) -> None:
        self.number(0)
        at = len(self.data) - 4
        for text in texts:
            self.string(text)
        self.data[at : at + 4] = (len(self.data) - at - 4).to_bytes(4, sys.byteorder)

    def signature(self, text: str) -> None:
        self.data += bytes((len(text),)) + text.encode() + b"\0"

    def field(self, code: int, kind: str, value: str) -> None:
        self.align(_STRUCT)
        self.data.append(code)
        self.signature(kind)
        if kind == "g":
            self.signature(value)
        else:
            self.string(value)

    def begin_array(self) -> int:
        """Begin an array of structs; return the argument for `end_array`."""
        self.number(0)
        at = len(self.data) - 4
        self.align(_STRUCT)
        return at

    def end_array(self, at: int) -> None:
        """Write the size of the array, without its first padding."""
        length = len(self.data) - _aligned(at + 4, _STRUCT)
        self.data[at : at + 4] = length.to_bytes(4, sys.byteorder)


def _fields(message: bytes) -> Iterator[tuple[int, int | str]]:
    """Yield the header fields of a message: code, and number or text. Raises IndexError."""
    order = _ORDERS[message[0]]
    end = HEAD + int.from_bytes(message[12:16], order)
    at = HEAD
    while at < end:
        at = _aligned(at, _STRUCT)
        code, kind = message[at], message[at + 1 : at + 4]  # a signature of one letter: its size, itself, NUL
        at += 4
        length = message[at] if kind == b"\1g\0" else int.from_bytes(message[at : at + 4], order)
        at += 1 if kind == b"\1g\0" else 4
        if kind == b"\1u\0":
            yield code, length
        else:
            yield code, message[at : at + length].decode("utf-8", "replace")
            at += length + 1


def _aligned(at: int, to: int) -> int:
    return at + -at % to
