"""The state directory: where the hook keeps what must outlive one container's start.

It holds nothing that another user could have written: the directory and each file are checked for owner and mode before
they are believed. /run is a tmpfs, so nothing here is synced: what matters after a power failure is gone with it.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.errors import HookError, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_NOT_OURS: Final = "is not a directory that only its owner can write to"
LONGEST_PAUSE: Final = 0.02  # seconds; where many start at once, who looks more often keeps the holder from its work

_boot_id = ""


class StateError(HookError):
    """The state directory cannot be used."""


def directory(state_dir: str, name: str = "") -> str:
    """Return the path of the state directory, or of the directory `name` in it, made if missing.

    Raises StateError where it cannot be made or is not this user's alone.
    """
    path = state_dir
    for part in ("", name) if name else ("",):
        path = os.path.join(path, part) if part else path
        try:
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                if not part:
                    _make_parents(os.path.dirname(path))
                _make(path)
                status = os.lstat(path)
        except OSError as error:
            raise _unusable(path, reason(error)) from None
        if not stat.S_ISDIR(status.st_mode) or not is_trusted(status):
            raise _unusable(path, _NOT_OURS)
    return path


def existing(state_dir: str, name: str = "") -> str | None:
    """Return the path of the state directory, or of the directory `name` in it; None where there is none.

    For whoever reads, locks or removes there without having made it. Raises StateError where it is not this user's
    alone: in /tmp anybody can have made it, or a link to a directory that this user owns.
    """
    path = state_dir
    for part in ("", name) if name else ("",):
        path = os.path.join(path, part) if part else path
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unusable(path, reason(error)) from None
        if not stat.S_ISDIR(status.st_mode) or not is_trusted(status):
            raise _unusable(path, _NOT_OURS)
    return path


def is_trusted(status: os.stat_result) -> bool:
    """Tell whether only root or this user can have written what has this status."""
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & _WRITABLE_BY_OTHERS


def read(path: str, limit: int) -> bytes | None:
    """Return a state file's contents; None where there is none, or none to be trusted, or one larger than `limit`."""
    try:
        fd = os.open(path, _READ)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not is_trusted(status) or status.st_size > limit:
            return None
        return os.read(fd, status.st_size)  # whole: `write` puts a file there in one step
    finally:
        os.close(fd)


def write(path: str, data: bytes, mode: int = 0o600) -> None:
    """Put `data` in the place of the file, whole or not at all. Raises OSError."""
    # Two hooks may have one number, each in a pid namespace of its own.
    temporary = f"{path}.{os.getpid()}-{os.stat('/proc/self/ns/pid').st_ino}.new"
    try:
        fd = os.open(temporary, _CREATE, mode)
    except FileExistsError:  # left behind by a killed process that had this number
        os.unlink(temporary)
        fd = os.open(temporary, _CREATE, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def lock(fd: int, patience: float) -> bool:
    """Lock a file until it is closed; False where others have had it for `patience` seconds. Raises OSError."""
    from fcntl import LOCK_EX, LOCK_NB, flock

    return attempt(lambda: flock(fd, LOCK_EX | LOCK_NB), patience)


def attempt(lock: Callable[[], object], patience: float) -> bool:
    """Call `lock` until it does not raise BlockingIOError; False where it does for `patience` seconds."""
    from time import monotonic, sleep

    give_up = monotonic() + patience
    pause = 0.0005
    while True:
        try:
            lock()
        except BlockingIOError:
            if monotonic() >= give_up:
                return False
            sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            return True


def drop_unfinished(path: str) -> None:
    """Remove what killed processes left of their `write` of the file, where nobody can be writing it now."""
    directory, name = os.path.split(path)
    try:
        for found in os.listdir(directory):
            if found.startswith(name + ".") and found.endswith(".new"):
                os.unlink(os.path.join(directory, found))
    except OSError:
        return  # it costs a file's room, no more


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (proc(5), stat field 22); 0 if there is none such.

    Together with the pid it names a process for good: numbers are used again, times are not.
    """
    fields = _stat(pid)
    if not fields:
        return 0
    # A leader that has ended is a zombie to all who look, while its other threads may have the GPU open.
    if fields[0] in (b"Z", b"X", b"x") and int(fields[17]) <= 1:
        return 0
    return int(fields[19])


def parent(pid: int) -> int:
    """Return the process that a process is the child of, 0 if there is none."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the third on, none where there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        text = os.read(fd, 4096)
    except OSError:
        return []
    finally:
        os.close(fd)
    return text[text.rfind(b")") + 2 :].split(None, 20)  # the name in parentheses may hold anything, spaces too


def boot_id() -> str:
    """Return what names this boot of the machine (random(4)), "" where /proc does not tell. It is read once."""
    global _boot_id
    if not _boot_id:
        try:
            fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            _boot_id = os.read(fd, 64).strip().decode("ascii", "replace")
        finally:
            os.close(fd)
    return _boot_id


def _make(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # another process has made it meanwhile


def _make_parents(path: str) -> None:
    if not os.path.isdir(path):
        _make_parents(os.path.dirname(path))
        os.mkdir(path, 0o755)


def _unusable(path: str, why: str) -> StateError:
    remedy = "make it a directory of root, mode 0700, or name another as dir in [state] of config.toml"
    return StateError(f"state directory {quoted(path)}", why, remedy)
