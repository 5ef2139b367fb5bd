"""One refresh of specification files at a time, and nothing left of those that were killed."""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits, locks, state
from oci_gpu_hook.base.errors import HookError, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.base.config.model import Config

OURS: Final = "oci-gpu-hook-"  # how the names of this project's files begin, followed by the kind of devices
DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_UNFINISHED: Final = ".new"  # the end of the name of a file that is being written
_LOCK: Final = "cdi-refresh.lock"


class Alone:
    """While it lasts, other refreshes wait.

    It begins before the host is looked at, so that of two the later one writes what is later. Where the state directory
    cannot be used, refreshes go on side by side.
    """

    def __init__(self, config: Config, directory: str) -> None:
        self._state_dir = config.state_dir
        self._directory = directory
        self._lock: int | None = None

    def __enter__(self) -> None:
        """Wait for the others, and remove what killed ones have left. Raises HookError if one takes too long."""
        try:
            path = os.path.join(state.directory(self._state_dir), _LOCK)
            self._lock = locks.acquire(path, limits.CDI_REFRESH_LOCK_SECONDS)
        except (OSError, StateError):
            return
        if self._lock is None:
            why = f"has been under way for {limits.CDI_REFRESH_LOCK_SECONDS:g} s"
            remedy = "see with `ps` what it waits for, end it, and run this again"
            raise HookError("another refresh", why, remedy, "OGH1921")
        _drop_unfinished(self._directory)

    def __exit__(self, *_: object) -> None:
        """Let the next one begin."""
        if self._lock is not None:
            os.close(self._lock)


def _drop_unfinished(directory: str) -> None:
    try:
        here = os.open(directory, DIRECTORY)
    except OSError:
        return  # there is none yet, or the refresh says what is wrong with it
    try:
        for name in os.listdir(here):
            if name.startswith(OURS) and name.endswith(_UNFINISHED):
                os.unlink(name, dir_fd=here)
    except OSError:
        return  # all it costs is the space of a file
    finally:
        os.close(here)
