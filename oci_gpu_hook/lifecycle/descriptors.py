"""Looks in /proc for what holds a device open for a process: descriptors, mappings, io_uring, messages under way."""

from __future__ import annotations

import os
from time import monotonic

from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.processes import living_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Final

    from oci_gpu_hook.devices.edits import Numbers

_NEVER: Final = float("inf")
UNDER_WAY: Final = "descriptors are under way to it in a socket"
IN_A_RING: Final = "its io_uring has files that cannot be told"
_RING: Final = "anon_inode:[io_uring]"
_ATTEMPTS: Final = 5  # the kernel shows a ring's files only while nobody works with it


def has_open(pid: int, devices: Collection[Numbers], give_up: float = _NEVER) -> bool:
    """Tell whether a process has one of the devices open in any of its threads, or mapped.

    give_up: the time (time.monotonic) at which TimeoutError is raised. A million descriptors take seconds, and each
    thread may have a table of its own.
    """
    places = (directory for each in (_mappings, _tables) for directory in each(pid))
    return any(_is_one(path, devices) for path in _paths(places, give_up))


def hidden(pid: int, devices: Collection[Numbers], give_up: float = _NEVER) -> str:
    """Return why a process may have one of the devices open although no descriptor of it leads there; "" if it has not.

    Descriptors that were sent to a Unix socket belong to nobody until they are received; a file that is registered with
    an io_uring needs no descriptor. Source: fs/proc/fd.c, net/unix/af_unix.c (`scm_fds`), io_uring/fdinfo.c.
    give_up: as for `has_open`.
    """
    for path in _paths(_tables(pid), give_up):
        try:
            link = os.readlink(path)
        except OSError:
            continue
        directory, _, name = path.rpartition("/")
        information = f"{directory}info/{name}"
        if link.startswith("socket:") and _fields(information, b"scm_fds:") not in ([], [b"0"]):
            return UNDER_WAY
        if link == _RING and (why := _in_ring(pid, information, devices)):
            return why
    return ""


def _mappings(pid: int) -> Iterator[str]:
    """Yield the directory of what a process has mapped, as another thread shows it if the first one has ended."""
    thread = living_thread(pid)
    yield f"/proc/{thread or pid}/map_files"


def _paths(directories: Iterable[str], give_up: float) -> Iterator[str]:
    """Yield what is in directories. Raises TimeoutError."""
    for directory in directories:
        for name in _names(directory):
            if monotonic() > give_up:
                raise TimeoutError
            yield f"{directory}/{name}"


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
