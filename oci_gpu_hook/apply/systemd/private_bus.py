"""Tells systemd which devices a unit may use, through the socket on which it listens to root: one call, one answer.

systemd reads a drop-in when it reloads. Until then any change of a property of the unit (`systemctl set-property`, an
update of the container) makes systemd rewrite the device rules from what it knew before; this call makes it know. It
uses neither a message bus nor a library: https://dbus.freedesktop.org/doc/dbus-specification.html.
"""

from __future__ import annotations

import os
from time import monotonic

from oci_gpu_hook.apply.systemd import message
from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import ApplyError, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.devices.edits import Numbers as Node

_SOCKET: Final = "run/systemd/private"
PATIENCE: Final = limits.SYSTEMD_SECONDS
_PIECE: Final = 1 << 16  # bytes of one read
_MOST: Final = limits.SYSTEMD_SAID
_LONGEST_LINE: Final = limits.SYSTEMD_LINE
_REMEDY: Final = "see systemd's own log; until its next reload a change of the unit's properties takes the GPUs away"


def allow_devices(unit: str, nodes: Sequence[Node], root: str = "/", patience: float = PATIENCE) -> None:
    """Have systemd allow a running unit these character devices. Raises ApplyError, also if it does not answer.

    root: of the host's file system.
    """
    _tell(unit, message.allowing_devices(unit, nodes), root, patience)


def allow_only(unit: str, allowed: Mapping[str, str], root: str = "/", patience: float = PATIENCE) -> None:
    """Have systemd allow a running unit these devices and no others. Raises ApplyError, also if it does not answer.

    allowed: access, such as "rwm", by node as in DeviceAllow=. root: of the host's file system.
    """
    _tell(unit, message.allowing_only(unit, allowed), root, patience)


def start_service(unit: str, command: Sequence[str], environment: Mapping[str, str], root: str = "/") -> None:
    """Have systemd start a transient service, whose command forks. Raises ApplyError; it may still fail to start."""
    call = message.starting_service(unit, command, environment)
    _ask(call, f"systemd did not start {quoted(unit)}", "see systemd's own log", root, PATIENCE)


def stop(unit: str, root: str = "/") -> None:
    """Have systemd stop a unit. Raises ApplyError; the unit may stop later."""
    _ask(message.stopping(unit), f"systemd did not stop {quoted(unit)}", "see systemd's own log", root, PATIENCE)


def _tell(unit: str, call: bytes, root: str, patience: float) -> None:
    _ask(call, f"systemd was not told of the devices of {quoted(unit)}", _REMEDY, root, patience)


def _ask(call: bytes, what: str, remedy: str, root: str, patience: float) -> None:
    import _socket  # the module `socket` costs fifteen times as much, and none of it is needed

    try:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            conversation = _Conversation(connection, monotonic() + patience)
            connection.connect(os.path.join(root, _SOCKET))
            said = conversation.ask(call)
        finally:
            connection.close()
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise ApplyError(what, why, remedy, "OGH1509") from None
    if said:
        raise ApplyError(what, f"it answered {quoted(said)}", remedy, "OGH1509")


class _Conversation:
    """The exchange on a connection, with a time limit. Raises OSError, ValueError."""

    def __init__(self, connection: socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._heard = bytearray()
        self._left = _MOST
        self._bound()

    def ask(self, call: bytes) -> str:
        """Make a call; return "" when it is done, or the name of the error in the answer."""
        # All at once: there is no need to wait for systemd in between, which knows root by the socket's credentials.
        identity = str(os.geteuid()).encode().hex().encode()
        self._connection.sendall(b"\0AUTH EXTERNAL " + identity + b"\r\nBEGIN\r\n" + call)
        line = self._line()
        if not line.startswith(b"OK "):
            raise ValueError(f"it sent {quoted(line)}")
        while True:
            head = self._take(message.HEAD)
            said = message.answer(head + self._take(message.size(head) - message.HEAD))
            if said is not None:
                return said

    def _line(self) -> bytes:
        while (end := self._heard.find(b"\r\n")) < 0:
            if len(self._heard) > _LONGEST_LINE:
                raise ValueError("it sent a line without an end")
            self._hear()
        line = bytes(self._heard[:end])
        del self._heard[: end + 2]
        return line

    def _take(self, count: int) -> bytes:
        while len(self._heard) < count:
            self._hear()
        taken = bytes(self._heard[:count])
        del self._heard[:count]
        return taken

    def _hear(self) -> None:
        self._bound()
        piece = self._connection.recv(_PIECE)
        self._left -= len(piece)
        if not piece:
            raise ValueError("it ended the connection")
        if self._left < 0:
            raise ValueError("it sent too much without an answer")
        self._heard += piece

    def _bound(self) -> None:
        """Limit the next call to the time that is left."""
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)
