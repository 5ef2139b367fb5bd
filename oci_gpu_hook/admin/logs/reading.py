"""What was logged, of both logs in the order of time, and what is logged from then on."""

from __future__ import annotations

import heapq
import select
from collections import deque

from oci_gpu_hook.admin.logs import host
from oci_gpu_hook.admin.logs import line as lines
from oci_gpu_hook.admin.logs.file import LogFile
from oci_gpu_hook.base.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

    from oci_gpu_hook.admin.logs.line import Line

_PAUSE: Final = 0.25  # seconds from look to look at the file
_REMEMBERED: Final = 256  # messages; a refusal is in both logs within a moment
_MESSAGES: Final = ("refused", "failed", "warning")


class Logs:
    """Both logs as one: what stands in both is yielded once."""

    def __init__(self, path: str) -> None:
        """path: of the file, "" if none is configured. Raises HookError where there is no log at all."""
        self._file = LogFile(path) if path else None
        self._host = host.find()
        self._follower: host.Follower | None = None
        self._said: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)
        if not self._file and not self._host:
            why = "there is none: [log] file is not set, and this host has no journalctl"
            raise HookError(
                "log", why, 'set [log] file = "/var/log/oci-gpu-hook.log" in /etc/oci-gpu-hook/config.toml', "OGH1916"
            )

    def past(self) -> Iterator[Line]:
        """Yield what there is, oldest first. Raises HookError if the file cannot be read."""
        of_host = self._host.past() if self._host else ()
        yield from self._once(heapq.merge(self._of_all_files(), of_host, key=lambda line: line.time))

    def coming(self, is_over: Callable[[], bool]) -> Iterator[Line]:
        """Yield what comes after `past` until `is_over`. Raises HookError if nothing can come any more."""
        self._follower = self._host.follower() if self._host else None
        while not is_over():
            fresh: list[Line] = []
            told = [self._follower.fd] if self._follower else []
            if select.select(told, [], [], _PAUSE)[0] and self._follower and not self._follower.read_into(fresh):
                self._stop_following()
                if not self._file:
                    raise HookError("log", "journalctl has ended", "start it again", "OGH1918")
            fresh += self._of_file()
            yield from self._once(iter(sorted(fresh, key=lambda line: line.time)))

    def close(self) -> None:
        """End what was begun."""
        self._stop_following()
        if self._file:
            self._file.close()

    def _stop_following(self) -> None:
        if self._follower:
            self._follower.close()
            self._follower = None

    def _of_all_files(self) -> Iterator[Line]:
        for data in self._file.earlier() if self._file else ():
            found = lines.of_file(data)
            if found:
                yield found
        yield from self._of_file()

    def _of_file(self) -> Iterator[Line]:
        for data in self._file.lines() if self._file else ():
            found = lines.of_file(data)
            if found:
                yield found

    def _once(self, found: Iterator[Line]) -> Iterator[Line]:
        for line in found:
            said = (line.container, line.message)
            if line.event in _MESSAGES and line.message:
                if line.log == lines.HOST and said in self._said:
                    continue
                if line.log == lines.FILE:
                    self._said.append(said)
            yield line
