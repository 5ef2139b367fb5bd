"""Tells cheaply whether anything has changed the device rules of a container: its runtime, its engine, or systemd.

Whoever changes them on cgroup v2 attaches another program, which has an id that no program had before it. On v1 the
list itself is read.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply.device_access import bpf, cgroup
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Place(Record):
    """The lowest cgroup of a container: version 1, 2, or 0 for none, and its directory."""

    version: int
    directory: str = ""


def place_of(pid: int, cgroups_path: str) -> Place:
    """Return where the device rules of a container are. Raises ApplyError."""
    with cgroup.find(pid, cgroups_path) as found:
        if not found.levels:
            return Place(version=0)
        return Place(version=found.version, directory=os.readlink(f"/proc/self/fd/{found.levels[-1]}"))


def stamp_of(place: Place) -> tuple[int, ...] | bytes | None:
    """Return a value that changes with the rules; None if the cgroup is gone, or its rules cannot be read."""
    if not place.version:
        return ()
    try:
        fd = os.open(place.directory, _DIRECTORY)
    except OSError:
        return None
    try:
        if place.version == 1:
            return read_file("devices.list", dir_fd=fd)
        return bpf.effective(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
