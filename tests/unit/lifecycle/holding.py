"""Holds a device open in a way that /proc/PID/fd does not show: holding.py thread|mapped|sent|registered."""

import array
import ctypes
import os
import socket
import struct
import sys
import tempfile
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_FILES = 0x400


def thread() -> None:
    """A thread with descriptors of its own has it."""
    ready = threading.Event()

    def hold() -> None:
        assert LIBC.unshare(CLONE_FILES) == 0
        os.open("/dev/full", os.O_RDWR)
        ready.set()
        time.sleep(100)

    threading.Thread(target=hold, daemon=True).start()
    ready.wait()


def mapped() -> None:
    fd = os.open("/dev/zero", os.O_RDWR)
    private = 2  # of shared ones, /dev/zero is not the file; the module mmap would keep a descriptor
    LIBC.mmap.restype = ctypes.c_void_p
    assert LIBC.mmap(None, ctypes.c_size_t(4096), 1, private, fd, ctypes.c_long(0)) != ctypes.c_void_p(-1).value
    os.close(fd)


def sent() -> None:
    """It is in a socket, and not received."""
    one, other = socket.socketpair()
    fd = os.open("/dev/full", os.O_RDWR)
    one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    os.close(fd)
    globals()["kept"] = one, other


def registered() -> None:
    """It is registered with an io_uring (io_uring_setup(2), io_uring_register(2))."""
    parameters = ctypes.create_string_buffer(120)
    ring = LIBC.syscall(425, 4, parameters)
    if ring < 0:
        sys.exit("no io_uring")
    node = f"{tempfile.mkdtemp()}/full"
    os.mknod(node, 0o20600, os.makedev(1, 7))
    fd = os.open(node, os.O_RDWR)
    assert LIBC.syscall(427, ring, 2, ctypes.create_string_buffer(struct.pack("i", fd)), 1) == 0
    os.close(fd)
    os.unlink(node)
    os.rmdir(os.path.dirname(node))


{"thread": thread, "mapped": mapped, "sent": sent, "registered": registered}[sys.argv[1]]()
print("there", flush=True)
time.sleep(100)
