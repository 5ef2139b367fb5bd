"""Holds a device open in a way that /proc/PID/fd does not show: holding.py thread|mapped|sent|registered|receiving."""

import array
import ctypes
import fcntl
import mmap
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


def receiving() -> None:
    """A thread receives it, and the kernel waits for a page of its memory before it gives it a descriptor.

    userfaultfd(2); any page that comes from a file system of the attacker's does as well.
    """
    page = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    faults = LIBC.syscall(323 if os.uname().machine == "x86_64" else 282, os.O_CLOEXEC)
    if faults < 0:
        sys.exit("no userfaultfd")
    fcntl.ioctl(faults, 0xC018AA3F, struct.pack("QQQ", 0xAA, 0, 0))  # UFFDIO_API
    fcntl.ioctl(faults, 0xC020AA00, struct.pack("QQQQ", address, mmap.PAGESIZE, 1, 0))  # UFFDIO_REGISTER, missing pages
    one, other = socket.socketpair()
    fd = os.open("/dev/full", os.O_RDWR)
    one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    os.close(fd)
    data = ctypes.create_string_buffer(8)
    vector = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(data), 1))
    header = struct.pack("QIxxxxQQQQi", 0, 0, ctypes.addressof(vector), 1, address, 64, 0)
    words = (ctypes.c_int(other.fileno()), ctypes.create_string_buffer(header), 0)
    threading.Thread(target=lambda: LIBC.recvmsg(*words), daemon=True).start()
    while os.read(faults, 32) == b"":
        pass
    globals()["kept"] = one, other, page, faults


{"receiving": receiving, "thread": thread, "mapped": mapped, "sent": sent, "registered": registered}[sys.argv[1]]()
print("there", flush=True)
time.sleep(100)
