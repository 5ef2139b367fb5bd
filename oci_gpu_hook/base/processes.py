"""What /proc says of processes and of this boot of the machine (proc(5))."""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.files import read_file, read_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_STATUS_SIZE: Final = 16384

_boot_id = ""


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (field 22 of stat); 0 if there is no such process.

    Together with the pid it names a process for good: numbers are used again, times are not.
    """
    fields = _stat(pid)
    # A leader that has ended is a zombie to all who look, while its other threads may have the GPU open.
    if not fields or (fields[0] in (b"Z", b"X", b"x") and int(fields[17]) <= 1):
        return 0
    return int(fields[19])


def lives(pid: int, started: int) -> bool:
    """Tell whether the process of that number that started then lives."""
    return 0 != start_time(pid) == started


def parent(pid: int | str = "self") -> int:
    """Return the number of the process that a process is the child of, 0 if there is none."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int | str) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the third on, none where there is no such process."""
    try:
        text = read_start(f"/proc/{pid}/stat", 4096)
    except OSError:
        return []
    return text[text.rfind(b")") + 2 :].split(None, 20)  # the name in parentheses may hold anything, spaces too


def status_field(pid: int | str, name: bytes) -> bytes:
    """Return a field of /proc/PID/status, such as b"NSpid", b"" where it is not there. Raises OSError."""
    text = read_start(f"/proc/{pid}/status", _STATUS_SIZE)
    return text.partition(b"\n" + name + b":")[2].partition(b"\n")[0].strip()


def innermost_number(pid: int | str) -> int:
    """Return the number of a process in its own pid namespace, 0 where /proc does not tell. Raises OSError."""
    numbers = status_field(pid, b"NSpid").split()
    return int(numbers[-1]) if numbers else 0


def name_of(pid: int | str) -> bytes:
    """Return the name of a process as the kernel has it: 15 bytes at most. Raises OSError."""
    return read_start(f"/proc/{pid}/comm", 64).rstrip(b"\n")


def variable(pid: int | str, name: bytes) -> list[bytes]:
    """Return the values of a variable in the environment that a process was started with. Raises OSError."""
    data = b"\0" + read_file(f"/proc/{pid}/environ", limits.ENVIRONMENT)
    found = []
    start = data.find(b"\0" + name + b"=")
    while start >= 0:  # not split: the process chose how many entries there are
        value = start + len(name) + 2
        end = data.find(b"\0", value)
        found.append(data[value:end] if end >= 0 else data[value:])
        start = data.find(b"\0" + name + b"=", value)
    return found


def boot_id() -> str:
    """Return what names this boot of the machine (random(4)), "" where /proc does not tell. It is read once."""
    global _boot_id
    if not _boot_id:
        try:
            _boot_id = read_start("/proc/sys/kernel/random/boot_id", 64).strip().decode("ascii", "replace")
        except OSError:
            return ""
    return _boot_id
