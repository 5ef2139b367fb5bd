"""System calls for the stand-ins of Mesos' programs; nothing of the product is used by them."""

from __future__ import annotations

import ctypes
import os
import platform

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE, MS_SHARED, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 19, 1 << 20, 1 << 18
MNT_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[platform.machine()]
_PR_CAPBSET_DROP = 24
# include/uapi/linux/capability.h, in the order of the numbers
_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP"
)
CAPABILITIES = tuple(_NAMES.split(" "))


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    texts = (text.encode() if text else None for text in (source, target, kind))
    _check(_libc.mount(*texts, ctypes.c_ulong(flags), options.encode() or None), target)


def umount(target: str) -> None:
    _check(_libc.umount2(target.encode(), MNT_DETACH), target)


def pivot_root(new: str, old: str) -> None:
    _check(_libc.syscall(_PIVOT_ROOT, new.encode(), old.encode()), new)


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def enter(path: str, kind: int) -> None:
    fd = os.open(path, os.O_RDONLY)
    _check(_libc.setns(fd, kind), path)
    os.close(fd)


def drop_from_bounding_set(kept: list[str]) -> None:
    for number, name in enumerate(CAPABILITIES):
        if name not in kept:
            _check(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), name)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
