"""The resident: a process with all modules of a start imported, whose workers do what Python would be started for.

systemd starts it at the first connection to its socket (package/oci-gpu-hook.socket), and it ends when nobody has come
for a while. The front (front/resident.c) asks it before it starts Python, and starts Python whatever is wrong until it
has said go. Workers are forked ahead; they serve as long as each start leaves them as they were. docs/resident.md tells
all of it; `manager.py` is where to start reading.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SOCKET: Final = "/run/oci-gpu-hook/resident"  # ListenSequentialPacket= of package/oci-gpu-hook.socket
# What a front says first, and what it hears (MAGIC and `enum word` of front/resident.c): that it is served, will be
# when a worker is free, or is to start Python.
MAGIC: Final = "oci-gpu-hook resident 2"
READY: Final = b"R"
LOOK: Final = b"L"  # what `asking` says in place of go: only look whether I would be served
QUEUED: Final = b"Q"
NO: Final = b"N"
