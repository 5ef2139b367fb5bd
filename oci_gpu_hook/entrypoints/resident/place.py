"""Where a process is and what it may do: a worker serves only a front of which both are what they are of itself.

A start by Python would be the front's own process. So the two must see the same files, processes and users, and the
kernel must permit them the same; otherwise a start would differ by who does it, or the front would gain rights.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Self

_NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_RIGHTS: Final = (
    b"Uid",
    b"Gid",
    b"CapInh",
    b"CapPrm",
    b"CapEff",
    b"CapBnd",
    b"CapAmb",
    b"NoNewPrivs",
    b"Seccomp",
    b"Seccomp_filters",
)
_SIGNALS: Final = (b"SigBlk", b"SigIgn", b"SigCgt")
_LIBCS: Final = 0b11 << 31  # signals 32 and 33 are glibc's, which catches them from the first thread on (nptl(7))
_STATUS_SIZE: Final = 16384
_LABEL_SIZE: Final = 4096


class Place(Record):
    """A process's namespaces, root directory, ids, capabilities and restrictions, and the label of its LSM."""

    namespaces: tuple[str, ...]
    root: str
    rights: tuple[bytes, ...]
    label: bytes


class Look(Record):
    """What /proc says of a process: its place, its parent's pid, its umask, the number of its threads.

    signals: the masks of those that are blocked, ignored and caught. memory: bytes that are not those of files.
    """

    place: Place
    parent: int
    umask: int
    threads: int
    signals: tuple[int, ...]
    memory: int

    @classmethod
    def at(cls, pid: int | str) -> Self:
        """Look at a process. Raises OSError if it is gone, or not to be seen; ValueError."""
        process = open_process(pid)
        try:
            return cls.through(process)
        finally:
            os.close(process)

    @classmethod
    def through(cls, process: int) -> Self:
        """Look at a process by its descriptor. Raises OSError if it is gone, whoever has its pid; ValueError."""
        status = _read(process, "status", _STATUS_SIZE)
        place = Place(
            namespaces=tuple([_link(process, f"ns/{name}") for name in _NAMESPACES]),
            root=os.readlink("root", dir_fd=process),
            rights=tuple([_field(status, name) for name in _RIGHTS]),
            label=_label(process),
        )
        return cls(
            place=place,
            parent=int(_field(status, b"PPid")),
            umask=int(_field(status, b"Umask"), 8),
            threads=int(_field(status, b"Threads")),
            signals=tuple([int(_field(status, name), 16) & ~_LIBCS for name in _SIGNALS]),
            memory=int(_field(status, b"RssAnon").removesuffix(b" kB")) << 10,
        )


def open_process(pid: int | str) -> int:
    """Return a descriptor of a process's directory in /proc, which never leads to a later process with that pid.

    Raises OSError.
    """
    return os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _read(process: int, name: str, size: int) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def _field(status: bytes, name: bytes) -> bytes:
    return status.partition(b"\n" + name + b":")[2].partition(b"\n")[0].strip()


def _link(process: int, path: str) -> str:
    try:
        return os.readlink(path, dir_fd=process)
    except FileNotFoundError:
        return ""  # a kind that this kernel does not have


def _label(process: int) -> bytes:
    try:
        return _read(process, "attr/current", _LABEL_SIZE).rstrip(b"\0\n")
    except OSError:
        return b""  # no module that labels processes
