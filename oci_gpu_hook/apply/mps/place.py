"""Where a container's MPS daemon has its files: STATE/mps/PID-START-BOOT, named after the container's first process.

The name is short, since the daemon makes sockets there, whose paths have at most 107 bytes. All in it belongs to root;
`pipe` alone is seen by others, the container's programs, who find it bound read-only.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import state
from oci_gpu_hook.base.errors import ApplyError, quoted, reason
from oci_gpu_hook.base.processes import boot_id, lives, start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

DIRECTORY: Final = "mps"
_PIPE: Final = "pipe"
_LOG: Final = "log"
_SOCKET: Final = "control"  # the daemon's own name for it
_LONGEST_PATH: Final = 107  # bytes, of a socket: unix(7)


def name_of(pid: int) -> str:
    """Return the name of the directory for a container's first process; 0: it has none yet."""
    return f"{pid}-{start_time(pid)}-{boot_id()[:8]}" if pid else "PID-START-BOOT"


def has_ended(name: str) -> bool:
    """Tell whether the container of a directory has ended, or lived before the machine's last boot."""
    pid, _, rest = name.partition("-")
    started, _, boot = rest.partition("-")
    if not (pid.isdecimal() and started.isdecimal()):
        return False  # not this project's
    return boot != boot_id()[:8] or not lives(int(pid), int(started))


def names(state_dir: str) -> list[str]:
    """Return the names of all directories."""
    directory = state.existing(state_dir, DIRECTORY)
    return os.listdir(directory) if directory else []


def pipe_of(state_dir: str, name: str) -> str:
    """Return the path of the pipe directory."""
    return f"{state_dir}/{DIRECTORY}/{name}/{_PIPE}"


def log_of(state_dir: str, name: str) -> str:
    """Return the path of the directory for logs."""
    return f"{state_dir}/{DIRECTORY}/{name}/{_LOG}"


def socket_of(state_dir: str, name: str) -> str:
    """Return the path of the socket that shows that the daemon has come up."""
    return f"{pipe_of(state_dir, name)}/{_SOCKET}"


def make(state_dir: str, name: str) -> None:
    """Make the directories. Raises HookError."""
    place = f"{state.directory(state_dir, DIRECTORY)}/{name}"
    if len(os.fsencode(socket_of(state_dir, name))) > _LONGEST_PATH:
        what = f"state directory {quoted(state_dir)}"
        raise ApplyError(
            what, "has too long a path for the sockets of MPS", "name a shorter one, [state] dir", "OGH1510"
        )
    umask = os.umask(0)
    try:
        for path, mode in ((place, 0o700), (pipe_of(state_dir, name), 0o755), (log_of(state_dir, name), 0o700)):
            os.mkdir(path, mode)
    except OSError as error:
        what = f"cannot make {quoted(place)} for the MPS daemon"
        raise ApplyError(what, reason(error), "check that the file system of [state] dir has room", "OGH1510") from None
    finally:
        os.umask(umask)


def remove(state_dir: str, name: str) -> None:
    """Remove the directories, with what the daemon has left in them. Raises OSError."""
    _remove(f"{state_dir}/{DIRECTORY}/{name}")


def _remove(path: str) -> None:
    for entry in os.listdir(path):
        below = f"{path}/{entry}"
        try:
            os.unlink(below)
        except IsADirectoryError:
            _remove(below)
    os.rmdir(path)
