"""The file of `[log] file`, read line by line, and on after it was rotated."""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import HookError, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_PIECE: Final = 64 << 10  # bytes that are read at once
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LogFile:
    """The file that has the name, and the one before it until that is read to its end.

    It may be renamed, so that hooks make a new one, or copied and cut to nothing. A line over the limit is passed over.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._rest = b""
        self._is_too_long = False

    def earlier(self) -> Iterator[bytes]:
        """Yield the lines of the files that the log was rotated to, before `lines`; raises HookError as that."""
        from oci_gpu_hook.admin.logs import rotated

        is_open = self._fd >= 0 or self._open()  # first, so that a rotation meanwhile hides nothing
        yield from rotated.lines(self._path, os.fstat(self._fd) if is_open else None)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that are there and were not yielded yet. Raises HookError if the file cannot be read."""
        while self._fd >= 0 or self._open():
            yield from self._unread()
            if not self._has_successor():
                return
            yield from self._unread()  # what was written until it lost its name
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._rest, self._is_too_long = -1, b"", False

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, _OPEN)
        except FileNotFoundError:  # nothing was logged yet, or since it was rotated
            return False
        except OSError as error:
            remedy = "run it as root" if os.geteuid() else "[log] file in config.toml names it"
            raise HookError(f"log {quoted(self._path)}", reason(error), remedy, "OGH1917") from None
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self.close()
            raise HookError(
                f"log {quoted(self._path)}", "is not a regular file", "[log] file in config.toml names it", "OGH1917"
            )
        return True

    def _unread(self) -> Iterator[bytes]:
        if os.fstat(self._fd).st_size < os.lseek(self._fd, 0, os.SEEK_CUR):  # it was cut
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._rest = b""
        while piece := os.read(self._fd, _PIECE):
            *whole, self._rest = (self._rest + piece).split(b"\n")
            for line in whole:
                if not self._is_too_long:
                    yield line
                self._is_too_long = False
            if len(self._rest) > limits.LOG_LINE:
                self._rest, self._is_too_long = b"", True

    def _has_successor(self) -> bool:
        """Tell whether another file has the name; while none has, hooks still make it."""
        try:
            named = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return False
        return not os.path.samestat(named, os.fstat(self._fd))
