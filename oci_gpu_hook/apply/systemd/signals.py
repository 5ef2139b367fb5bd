"""Listens to systemd: it tells of its reloads, and of changes of units, on the socket on which it serves root.

To a connection there it sends its signals unasked (src/core/dbus.c, bus_foreach_bus), so that no message bus and no
subscription is needed. A re-execution of systemd ends the connection.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply.systemd import message
from oci_gpu_hook.base.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Final, Self

_SOCKET: Final = "run/systemd/private"
_PIECE: Final = 1 << 16  # bytes of one read
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_UNITS: Final = "/org/freedesktop/systemd1/unit/"
RELOADING: Final = "Reloading"  # sent when a reload begins, and when it is done
CHANGED: Final = "PropertiesChanged"


class Listener:
    """A connection to systemd, from which nothing is read until there is something. Raises OSError, ValueError."""

    def __init__(self, root: str = "/") -> None:
        """Connect. root: of the host's file system."""
        import _socket

        self._heard = bytearray()
        self._is_greeted = False
        self._connection: socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            self._connection.settimeout(1.0)
            self._connection.connect(os.path.join(root, _SOCKET))
            identity = str(os.geteuid()).encode().hex().encode()
            self._connection.sendall(b"\0AUTH EXTERNAL " + identity + b"\r\nBEGIN\r\n")
            self._connection.setblocking(False)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._connection.fileno()

    def heard(self) -> list[tuple[str, str]]:
        """Return the signals that have come, each as path and name, without waiting for more.

        Raises ValueError for what is no D-Bus, EOFError if systemd has ended the connection.
        """
        while True:
            try:
                piece = self._connection.recv(_PIECE)
            except BlockingIOError:
                break
            if not piece:
                raise EOFError
            self._heard += piece
            if len(piece) < _PIECE or len(self._heard) > message.LARGEST:
                break
        return self._signals() if self._greeting_is_over() else []

    def _greeting_is_over(self) -> bool:
        if self._is_greeted:
            return True
        end = self._heard.find(b"\r\n")
        if end < 0 and len(self._heard) < _PIECE:
            return False
        line = bytes(self._heard[: max(end, 0)])
        if not line.startswith(b"OK "):
            raise ValueError(f"it sent {quoted(line)}")
        del self._heard[: end + 2]
        self._is_greeted = True
        return True

    def _signals(self) -> list[tuple[str, str]]:
        found = []
        while len(self._heard) >= message.HEAD:
            size = message.size(bytes(self._heard[: message.HEAD]))
            if len(self._heard) < size:
                break
            signal = message.signal(bytes(self._heard[:size]))
            del self._heard[:size]
            if signal[1]:
                found.append(signal)
        return found


def path_of(unit: str) -> str:
    """Return the path of a unit's object: all but letters and digits is escaped (sd_bus_path_encode(3))."""
    escaped = [chr(byte) if chr(byte) in _LETTERS else f"_{byte:02x}" for byte in unit.encode()]
    if escaped and escaped[0].isdecimal():
        escaped[0] = f"_{ord(escaped[0]):02x}"
    return _UNITS + "".join(escaped)
