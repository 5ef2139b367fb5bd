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
# What a front says first, and what it hears if it is to be served: MAGIC of front/resident.c, and its 'R'.
MAGIC: Final = "oci-gpu-hook resident 1"
READY: Final = b"R"
