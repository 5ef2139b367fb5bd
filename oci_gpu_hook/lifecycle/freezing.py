"""Stops the processes of a container for the moment in which they are looked at, so that none escapes the look.

A mark in the state directory says so before. Whoever works on the container next finds it, if this process was killed,
and thaws. Sources: Documentation/admin-guide/cgroup-v2.rst (cgroup.freeze), cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import os
import time

from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import DIRECTORY, key_of
from oci_gpu_hook.base import limits, mount_table, syscalls
from oci_gpu_hook.base.files import read_file, replace_file
from oci_gpu_hook.base.processes import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Self

    from oci_gpu_hook.apply.device_access.model import DeviceCgroup
    from oci_gpu_hook.base.config.model import Config

THAWED: Final = "were thawed each time that they were looked at"
MOVING: Final = f"did not all stand still within {limits.FREEZE_SECONDS:g} s, each time that they were frozen"
_V1: Final = "/sys/fs/cgroup/freezer"
_LOOK_AGAIN: Final = 0.001
_EVENTS: Final = 4096  # bytes

# name of the file → what is written to it to freeze and to thaw, and the file and the row that say that all is frozen
_FILES: Final = {
    "cgroup.freeze": (b"1", b"0", "cgroup.events", b"frozen 1"),
    "freezer.state": (b"FROZEN", b"THAWED", "freezer.state", b"FROZEN"),
}
_RUNS: Final = (b"0", b"THAWED")


class Frozen:
    """Keeps a container's own processes from running for a `with` block, where its cgroup has a freezer.

    A container that somebody else has paused stays so, also if that was during the block: a runtime's pause writes the
    same word to the same file, and the kernel tells that it was written to (inotify(7)). Whoever may write to it can
    thaw the container meanwhile: see `fault`.
    """

    def __init__(self, pid: int, container_id: str, devices: DeviceCgroup, config: Config) -> None:
        self._mark = _mark(container_id, pid, config)
        self._file = _file_of(pid, devices)
        self._frozen = False
        self._writes: int | None = None  # a descriptor that says so once somebody has written to the file
        self._is_others = False  # whether somebody else has
        self._stands = False

    def __enter__(self) -> Self:
        try:
            if self._file and _runs(self._file):
                replace_file(self._mark, os.fsencode(self._file))
                self._frozen = True
                _write(self._file, _FILES[os.path.basename(self._file)][0])
            if self._file:
                self._writes = _watch(self._file)
                self._stands = _wait(self._file)
        except OSError:
            self.__exit__()
            self._file = ""
        return self

    def fault(self) -> str:
        """Return why a look at the container does not count, "" if it does: also if it has no freezer, or has ended."""
        if not self._file:
            return ""
        try:
            if _runs(self._file) or self._is_written_to():
                return THAWED
        except OSError:
            return ""
        return "" if self._stands else MOVING

    def _is_written_to(self) -> bool:
        """Tell whether somebody else has written to the file since it was frozen."""
        if not self._is_others and self._writes is not None:
            try:
                self._is_others = bool(os.read(self._writes, _EVENTS))
            except BlockingIOError:
                return False
        return self._is_others

    def __exit__(self, *_exception: object) -> None:
        if self._frozen:
            if not self._is_written_to():  # otherwise it is as somebody else wants it
                _thaw(self._file)
            journal.drop(self._mark)
            self._frozen = False
        if self._writes is not None:
            os.close(self._writes)
            self._writes = None


def thaw(container_id: str, pid: int, config: Config) -> bool:
    """Thaw a container that a process which was killed has left frozen; tell whether there was one. Raises OSError."""
    mark = _mark(container_id, pid, config)
    try:
        file = os.fsdecode(read_file(mark))
    except FileNotFoundError:
        return False
    if os.path.basename(file) in _FILES:
        _thaw(file)
    journal.drop(mark)
    return True


def is_marked(container_id: str, pid: int, config: Config) -> bool:
    """Tell whether a container may have been left frozen."""
    return os.access(_mark(container_id, pid, config), os.F_OK)


def _mark(container_id: str, pid: int, config: Config) -> str:
    return os.path.join(config.state_dir, DIRECTORY, f"{key_of(container_id, pid, start_time(pid))}.frozen")


def _file_of(pid: int, devices: DeviceCgroup) -> str:
    """Return the path of the file that freezes the container's own cgroup, "" if there is none."""
    if devices.own_path in ("", "/"):
        return ""
    if devices.version == 2:
        return f"{os.readlink(f'/proc/self/fd/{devices.levels[0]}')}/cgroup.freeze"
    for _, controllers, path in mount_table.cgroups(read_file(f"/proc/{pid}/cgroup")):
        if b"freezer" in controllers and f"{os.fsdecode(path)}/".startswith(f"{devices.own_path}/"):
            return f"{_V1}{devices.own_path}/freezer.state"
    return ""


def _watch(file: str) -> int | None:
    """Return what says whether a file is written to from now on; None where a limit of the host keeps it from that."""
    try:
        return syscalls.watch_of_writes(file)
    except OSError:
        return None


def _runs(file: str) -> bool:
    """Tell whether nobody has asked for a cgroup to be frozen. Raises OSError."""
    return read_file(file).strip() in _RUNS


def _wait(file: str) -> bool:
    """Wait until a cgroup that is being frozen stands still, but not for what takes long; tell whether it does.

    What does not stand is in a system call, and may be given a descriptor that is in no table yet. Raises OSError.
    """
    _, _, state, row = _FILES[os.path.basename(file)]
    give_up = time.monotonic() + limits.FREEZE_SECONDS
    while row not in read_file(f"{os.path.dirname(file)}/{state}").split(b"\n"):
        if time.monotonic() > give_up:
            return False
        time.sleep(_LOOK_AGAIN)
    return True


def _thaw(file: str) -> None:
    try:
        _write(file, _FILES[os.path.basename(file)][1])
    except OSError:
        return  # it has ended


def _write(file: str, word: bytes) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, word)
    finally:
        os.close(fd)
