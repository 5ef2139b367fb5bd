"""What the watch says: JSON lines, in the form of the log, on stdout and in the log that the configuration names."""

from __future__ import annotations

import sys

from oci_gpu_hook.base import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_LOGGED: Final = {"debug": log.debug, "info": log.info, "warning": log.warning}


class Teller:
    """Writes events. lowest: the level below which nothing is written."""

    def __init__(self, lowest: str) -> None:
        self._lowest = log.LEVELS.index(lowest)

    def __call__(self, level: str, event: str, **fields: object) -> None:
        """Write an event."""
        _LOGGED[level](event, **fields)
        if log.LEVELS.index(level) >= self._lowest:
            sys.stdout.write(log.line(level, event, fields) + "\n")
            sys.stdout.flush()
