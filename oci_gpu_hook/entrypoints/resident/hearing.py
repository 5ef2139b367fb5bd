"""What a front says and hands over, and what the kernel says of who that is."""

from __future__ import annotations

import _socket
import fcntl
import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.entrypoints.resident import MAGIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

GO: Final = b"G"
STANDARD: Final = (0, 1, 2)  # the descriptors that a front hands over, as it has them
_INT_SIZE: Final = 4
_CREDENTIALS_SIZE: Final = 3 * _INT_SIZE  # struct ucred, unix(7)


class Call(Record):
    """What a front asks for: the arguments of the hook, or of the runtime.

    stub: what it would start, which tells of which build it is. program: the real runtime, that the front becomes.
    """

    role: str
    stub: str
    program: str
    arguments: tuple[str, ...]


def heard(connection: Any) -> Call | None:
    """Return what the front asks for, None for anything that is not a packet of the front's."""
    words = os.fsdecode(connection.recv(limits.RESIDENT_CALL + 1)).split("\0")
    if len(words) < 6 or words[0] != MAGIC or words[-1]:
        return None
    _, role, stub, program, *arguments = words[:-1]
    return Call(role=role, stub=stub, program=program, arguments=tuple(arguments))


def last_word(connection: Any, front: int, descriptors: list[int]) -> bytes:
    """Take the front's last word; return b"" if another has said it, or `GO` came without standard descriptors.

    They come no sooner: in a socket that nobody reads they would keep open what the engine waits for. The kernel says
    who has sent it: a process that inherited the front's end is not the front, whose pid may be another's by now.
    """
    room = _socket.CMSG_SPACE(len(STANDARD) * _INT_SIZE) + _socket.CMSG_SPACE(_CREDENTIALS_SIZE)
    is_fronts = False
    said: bytes
    said, control, flags, _ = connection.recvmsg(len(GO) + 1, room, _socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in control:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            whole = len(content) - len(content) % _INT_SIZE
            descriptors += memoryview(content[:whole]).cast("i")
        elif (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_CREDENTIALS) and len(content) == _CREDENTIALS_SIZE:
            pid, uid, _ = memoryview(content).cast("i")
            is_fronts = (pid, uid) == (front, 0)
    expected = len(STANDARD) if said == GO else 0
    return said if is_fronts and len(descriptors) == expected and not flags & _socket.MSG_CTRUNC else b""


def peer(connection: Any) -> int:
    """Return the pid of the process that has connected, 0 if it is not root or not to be seen from here.

    What /proc says of that pid is the front's if the last word comes from it, too (`last_word`).
    """
    content = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS_SIZE)
    pid, uid, _ = memoryview(content).cast("i")
    return pid if uid == 0 else 0


def enter_directory(process: int) -> None:
    """Enter the working directory of the front, in which a bundle's path may begin. Raises OSError."""
    fd = os.open("cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)
    try:
        os.fchdir(fd)
    finally:
        os.close(fd)


def is_in_memory(fd: int) -> bool:
    """Tell whether a file is in memory, as the front has written the state: to read anything else might never end."""
    try:
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return False
    return True
