"""Where fronts wait while all workers are busy: a socket pair that holds their connections until workers take them."""

from __future__ import annotations

import _socket
import os
from select import POLLIN, poll
from sys import byteorder
from time import monotonic, sleep

from oci_gpu_hook.entrypoints.resident import NO, QUEUED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_KIND: Final = (_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0)
_INT_SIZE: Final = 4
_PAUSE_SECONDS: Final = 0.05  # where no connection can be taken for want of descriptors
_MILLI: Final = 1000


class Queue:
    """The manager's part. entering, leaving: the descriptors of the two ends.

    How many connections it holds is limited by the kernel's limit of a socket's memory, some hundred. A connection that
    nobody has taken when the processes of the resident have ended is closed, and its front starts Python.
    """

    def __init__(self, listening: int) -> None:
        """Use a listening socket, which will be closed on exec, and of which no process waits for a connection."""
        os.set_inheritable(listening, False)
        os.set_blocking(listening, False)
        self._door: Any = _socket.socket(*_KIND, fileno=listening)
        self._entrance, self._exit = _socket.socketpair(*_KIND)
        self.entering = self._entrance.fileno()
        self.leaving = self._exit.fileno()

    def is_waited_in(self) -> bool:
        """Tell whether it holds a connection."""
        return _is_ready(self.leaving, 0)

    def receive(self, *, can_wait: bool) -> None:
        """Take the connections that have come into the queue; or, where it is full or they cannot wait, refuse them."""
        while True:
            try:
                fd, _ = self._door._accept()  # noqa: SLF001  socket.accept, without its module
            except BlockingIOError:
                return
            except OSError:
                sleep(_PAUSE_SECONDS)
                return
            connection = _socket.socket(*_KIND, fileno=fd)
            try:
                if not (can_wait and self._has_put(connection)):
                    connection.send(NO, _socket.MSG_DONTWAIT)
            except OSError:
                pass  # the front has gone
            connection.close()

    def turn_away(self, seconds: float) -> None:
        """Refuse all that come within some seconds, and those that have come."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            if _is_ready(self._door.fileno(), left):
                self.receive(can_wait=False)
        self.receive(can_wait=False)

    def _has_put(self, connection: Any) -> bool:
        """Tell a front that it is in the queue, and put it there; return whether there was room. Raises OSError."""
        connection.send(QUEUED, _socket.MSG_DONTWAIT)
        right = connection.fileno().to_bytes(_INT_SIZE, byteorder)
        try:
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, right)]
            self._entrance.sendmsg([b"c"], rights, _socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True


def take(leaving: Any) -> int:
    """Return the connection that has waited longest, at a worker's end. Raises BlockingIOError if there is none."""
    room = _socket.CMSG_SPACE(_INT_SIZE)
    _, control, _, _ = leaving.recvmsg(1, room, _socket.MSG_DONTWAIT | _socket.MSG_CMSG_CLOEXEC)
    for _level, _kind, content in control:
        return int.from_bytes(content, byteorder)
    raise BlockingIOError  # the connection was lost for want of descriptors


def _is_ready(fd: int, seconds: float) -> bool:
    events = poll()
    events.register(fd, POLLIN)
    return bool(events.poll(seconds * _MILLI))
