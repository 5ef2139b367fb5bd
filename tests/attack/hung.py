"""Mounts a FUSE file system that never answers. Usage: hung.py DIRECTORY [takes].

Nobody reads what the kernel asks; with `takes` somebody does, and says no more than that he is there. It prints
`mounted` and keeps it so until its stdin ends; then whoever waits for an answer gets an error.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading

MS_NOSUID_NODEV = 2 | 4
MNT_DETACH = 2
FUSE_INIT_OUT = struct.Struct("<IIII HHIIHHI I 6I")  # include/uapi/linux/fuse.h, version 7.31 and later


def take(device: int) -> None:
    """Answer the first request, FUSE_INIT, and none of the others, which wait in the server from then on."""
    request = os.read(device, 1 << 20)
    (unique,) = struct.unpack_from("<Q", request, 8)
    answer = FUSE_INIT_OUT.pack(7, 31, 65536, 0, 12, 9, 65536, 1, 16, 0, 0, 0, *[0] * 6)
    os.write(device, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)
    try:
        while True:
            os.read(device, 1 << 20)
    except OSError:  # it is unmounted
        return


libc = ctypes.CDLL(None, use_errno=True)
at = os.fsencode(sys.argv[1])
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
if libc.mount(b"never", at, b"fuse", MS_NOSUID_NODEV, options):
    sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
if sys.argv[2:]:
    threading.Thread(target=take, args=(device,), daemon=True).start()
print("mounted", flush=True)
sys.stdin.read()
libc.umount2(at, MNT_DETACH)
os._exit(0)
