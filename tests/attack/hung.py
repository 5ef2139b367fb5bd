"""Mounts a FUSE file system that never answers: nobody reads what the kernel asks. Usage: hung.py DIRECTORY.

It prints `mounted` and keeps it so until its stdin ends; then whoever waits for an answer gets an error.
"""

from __future__ import annotations

import ctypes
import os
import sys

MS_NOSUID_NODEV = 2 | 4
MNT_DETACH = 2

libc = ctypes.CDLL(None, use_errno=True)
at = os.fsencode(sys.argv[1])
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
if libc.mount(b"never", at, b"fuse", MS_NOSUID_NODEV, options):
    sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
print("mounted", flush=True)
sys.stdin.read()
libc.umount2(at, MNT_DETACH)
