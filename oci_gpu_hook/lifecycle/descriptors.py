"""Looks in /proc for what holds a device open for a process: descriptors, mappings, io_uring, messages under way."""

from __future__ import annotations

import os

from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Final

    from oci_gpu_hook.devices.edits import Numbers

UNDER_WAY: Final = "descriptors are under way to it in a socket"
IN_A_RING: Final = "its io_uring has files that cannot be told"
_RING: Final = "anon_inode:[io_uring]"
_ATTEMPTS: Final = 5  # the kernel shows a ring's files only while nobody works with it


def has_open(pid: int, devices: Collection[Numbers]) -> bool:
    """Tell whether a process has one of the devices open, in any of its threads, or mapped, or in an io_uring."""
    directories = [f"/proc/{pid}/map_files", *_tables(pid)]
    return any(_is_one(f"{directory}/{name}", devices) for directory in directories for name in _names(directory))


def hidden(pid: int, devices: Collection[Numbers]) -> str:
    """Return why a process may have one of the devices open although no descriptor of it leads there; "" if it has not.

    Descriptors that were sent to a Unix socket belong to nobody until they are received; a file that is registered with
    an io_uring needs no descriptor. Source: fs/proc/fd.c, net/unix/af_unix.c (`scm_fds`), io_uring/fdinfo.c.
    """
    for directory in _tables(pid):
        for name in _names(directory):
            try:
                link = os.readlink(f"{directory}/{name}")
            except OSError:
                continue
            information = f"{directory}info/{name}"
            if link.startswith("socket:") and _fields(information, b"scm_fds:") not in ([], [b"0"]):
                return UNDER_WAY
            if link == _RING and (why := _in_ring(pid, information, devices)):
                return why
    return ""


def _tables(pid: int) -> Iterator[str]:
    """Yield the directories of descriptors of a process: that of its first thread, and those of threads with others."""
    yield f"/proc/{pid}/fd"
    for thread in _names(f"/proc/{pid}/task"):
        if int(thread) != pid and not syscalls.has_files_of(int(thread), pid):
            yield f"/proc/{pid}/task/{thread}/fd"


def _in_ring(pid: int, information: str, devices: Collection[Numbers]) -> str:
    """Return IN_A_RING if a registered file of an io_uring is one of the devices, or cannot be told."""
    for _ in range(_ATTEMPTS):
        try:
            rows = read_file(information).split(b"\n")
        except OSError:
            return ""
        start = next((number for number, row in enumerate(rows) if row.startswith(b"UserFiles:")), None)
        if start is not None:
            break
    else:
        return IN_A_RING
    for row in rows[start + 1 :]:
        number, _, path = row.strip().partition(b": ")
        if not number.isdigit():
            break
        if path.startswith(b"/") and _may_be_one(f"/proc/{pid}/root{os.fsdecode(path)}", devices):
            return IN_A_RING
    return ""


def _may_be_one(path: str, devices: Collection[Numbers]) -> bool:
    try:
        return syscalls.device_numbers(path) in devices
    except OSError:
        return True  # it was removed or renamed since


def _is_one(path: str, devices: Collection[Numbers]) -> bool:
    try:
        return syscalls.device_numbers(path) in devices
    except OSError:
        return False


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _fields(path: str, name: bytes) -> list[bytes]:
    """Return the words of the row of a file of /proc that begins with a name."""
    try:
        rows = read_file(path).split(b"\n")
    except OSError:
        return []
    return next((row[len(name) :].split() for row in rows if row.startswith(name)), [])
