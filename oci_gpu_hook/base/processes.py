"""Reads from /proc what it says of processes and of this boot of the machine (proc(5))."""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import ApplyError
from oci_gpu_hook.base.files import read_file, read_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

_STATUS_SIZE: Final = 16384

_boot_id = ""
_principal = 0
_has_ended: Callable[[], bool] | None = None


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (field 22 of stat); 0 if there is no such process.

    The pid and this time together identify a process: pids are reused, but not with the same time.
    """
    fields = _stat(pid)
    # A process whose first thread has ended looks like a zombie, but its other threads may have the GPU open.
    if not fields or (fields[0] in (b"Z", b"X", b"x") and int(fields[17]) <= 1):
        return 0
    return int(fields[19])


def living_thread(pid: int) -> int:
    """Return the number of a thread of a process that has not ended: its own if its first thread has not, 0 for none.

    Of a process whose first thread has ended /proc shows no namespace, root or mapping any more under its own number,
    and all of them under those of its other threads.
    """
    if _has_namespace(pid):
        return pid
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return 0
    return next((int(thread) for thread in threads if _has_namespace(int(thread))), 0)


def _has_namespace(thread: int) -> bool:
    try:
        return bool(os.readlink(f"/proc/{thread}/ns/mnt"))
    except OSError:
        return False


def lives(pid: int, started: int) -> bool:
    """Tell whether the process with that pid and start time is alive."""
    return 0 != start_time(pid) == started


def act_for(pid: int, has_ended: Callable[[], bool] | None = None) -> None:
    """Have this process do another one's work: as a hook or runtime it is that process which others look for.

    pid: 0 for its own work again. has_ended: whether the other one has; None where this process ends with it.
    """
    global _principal, _has_ended
    _principal, _has_ended = pid, has_ended


def acting() -> int:
    """Return the pid, in /proc, of the process that is the hook or the runtime, usually this one."""
    return _principal or int(os.readlink("/proc/self"))  # under Mesos getpid() is not what /proc says


def check_principal() -> None:
    """Raise ApplyError if the process that this one works for has ended, as an engine kills a hook that is slow."""
    if _has_ended and _has_ended():
        raise ApplyError(
            "the hook's process", "was killed before it was done", "see why the engine ended it", "OGH1521"
        )


def parent(pid: int | str = "self") -> int:
    """Return the pid of a process's parent, 0 if there is none."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int | str) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the third on, an empty list if there is no such process."""
    try:
        text = read_start(f"/proc/{pid}/stat", 4096)
    except OSError:
        return []
    return text[text.rfind(b")") + 2 :].split(None, 20)  # the name in parentheses can contain anything, even spaces


def status_field(pid: int | str, name: bytes) -> bytes:
    """Return a field of /proc/PID/status, such as b"NSpid"; b"" if it is absent. Raises OSError."""
    text = read_start(f"/proc/{pid}/status", _STATUS_SIZE)
    return text.partition(b"\n" + name + b":")[2].partition(b"\n")[0].strip()


def innermost_number(pid: int | str) -> int:
    """Return the pid of a process in its own pid namespace, 0 if /proc does not say. Raises OSError."""
    numbers = status_field(pid, b"NSpid").split()
    return int(numbers[-1]) if numbers else 0


def name_of(pid: int | str) -> bytes:
    """Return the kernel's name of a process, at most 15 bytes. Raises OSError."""
    return read_start(f"/proc/{pid}/comm", 64).rstrip(b"\n")


def variable(pid: int | str, name: bytes) -> list[bytes]:
    """Return the values of a variable in the environment that a process was started with. Raises OSError."""
    data = b"\0" + read_file(f"/proc/{pid}/environ", limits.ENVIRONMENT)
    found = []
    start = data.find(b"\0" + name + b"=")
    while start >= 0:  # searched, not split, because the process chose how many entries there are
        value = start + len(name) + 2
        end = data.find(b"\0", value)
        found.append(data[value:end] if end >= 0 else data[value:])
        start = data.find(b"\0" + name + b"=", value)
    return found


def boot_id() -> str:
    """Return the id of this boot of the machine (random(4)), "" if /proc does not say. It is read once."""
    global _boot_id
    if not _boot_id:
        try:
            _boot_id = read_start("/proc/sys/kernel/random/boot_id", 64).strip().decode("ascii", "replace")
        except OSError:
            return ""
    return _boot_id
