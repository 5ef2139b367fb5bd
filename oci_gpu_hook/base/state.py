"""The state directory, where the hook keeps what must outlive one container's start.

Nothing in it is used if another user could have written it: the owner and mode of the directory and of each file are
checked first (`trust`). /run is a tmpfs, so nothing is synced: a power failure ends everything that the files describe.
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
    """Return the path of the state directory, or of the directory `name` in it, created if missing.

    Raises StateError if it cannot be created or others can write to it.
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
            raise unusable(path, error) from None
        if not stat.S_ISDIR(status.st_mode) or not is_trusted(status):
            raise unusable(path, _NOT_OURS)
    return path


def has_any(state_dir: str, name: str) -> bool:
    """Tell whether something is in the directory `name` of the state directory. Cheap, and who owns it is not asked."""
    try:
        return bool(os.listdir(f"{state_dir}/{name}"))
    except OSError:
        return False


def existing(state_dir: str, name: str = "") -> str | None:
    """Return the path of the state directory, or of the directory `name` in it; None if it does not exist.

    Use it for reading, locking and removing. Raises StateError if others can write to the directory: in /tmp anybody
    could have made it, or a link to a directory that this user owns.
    """
    path = state_dir
    for part in ("", name) if name else ("",):
        path = os.path.join(path, part) if part else path
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unusable(path, error) from None
        if not stat.S_ISDIR(status.st_mode) or not is_trusted(status):
            raise unusable(path, _NOT_OURS)
    return path


def read(path: str, limit: int) -> bytes | None:
    """Return a state file's contents; None if it is missing, cannot be trusted, or is larger than `limit`."""
    try:
        return read_trusted(path, limit)
    except (OSError, StateError):
        return None


def _make(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # another process has created it meanwhile


def _make_parents(path: str) -> None:
    if not os.path.isdir(path):
        _make_parents(os.path.dirname(path))
        os.mkdir(path, 0o755)


def unusable(path: str, why: OSError | str) -> StateError:
    """Return the error for a directory that this process cannot use."""
    if isinstance(why, PermissionError) and os.geteuid() != 0:
        return StateError(f"state directory {quoted(path)}", "only root may use it", "run this as root", "OGH1113")
    if isinstance(why, OSError):
        why = reason(why)
    remedy = "chown root and chmod 700 it, or name another directory as dir in [state] of config.toml"
    return StateError(f"state directory {quoted(path)}", why, remedy)
