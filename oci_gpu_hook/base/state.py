"""The state directory: where the hook keeps what must outlive one container's start.

It holds nothing that another user could have written: the directory and each file are checked for owner and mode before
they are believed (`trust`). /run is a tmpfs, so nothing here is synced: a power failure ends all that it speaks of.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.errors import StateError, quoted, reason
from oci_gpu_hook.base.trust import is_trusted, read_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_NOT_OURS: Final = "is not a directory that only its owner can write to"


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

    It is for reading, locking and removing there. Raises StateError where the directory is not this user's alone: in
    /tmp anybody can have made it, or a link to a directory that this user owns.
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


def read(path: str, limit: int) -> bytes | None:
    """Return a state file's contents; None where there is none, or none to be trusted, or one larger than `limit`."""
    try:
        return read_trusted(path, limit)
    except (OSError, StateError):
        return None


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
