"""Asks the resident as a front does, up to the point before the work: whether it would serve."""

from __future__ import annotations

import os

from oci_gpu_hook.entrypoints.resident import LOOK, MAGIC, QUEUED, READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_SECONDS: Final = 5.0  # a service that systemd starts first takes some hundred milliseconds


def is_ready(address: str, stub: str, seconds: float = _SECONDS) -> bool:
    """Tell whether the resident would serve a front of this process's. Raises OSError if nobody listens or answers.

    stub: what that front starts.
    """
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(seconds)
        connection.connect(address)
        packet = b"".join(word + b"\0" for word in (MAGIC.encode(), b"hook", os.fsencode(stub), b"", b"prestart"))
        connection.send(packet)
        said = connection.recv(1)
        if (connection.recv(1) if said == QUEUED else said) != READY:
            return False
        connection.send(LOOK)
        return connection.recv(1) == READY
    finally:
        connection.close()
