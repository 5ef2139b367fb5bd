"""Keeps SIGINT, SIGTERM and SIGHUP from ending this process in the middle of a change of a container."""

from __future__ import annotations

import os

from oci_gpu_hook.base.cpython import signals
from oci_gpu_hook.base.errors import ApplyError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Self

signal = signals.calls()
_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Notes these signals for a `with` block, and delivers the first one at its end.

    heard: a descriptor that can be read once there was one.
    """

    def __init__(self, container_id: str) -> None:
        self._id = container_id
        self._noted: list[int] = []
        self._handlers: dict[int, Any] = {}
        self._before = -1
        self.heard = self._writing = -1

    def __enter__(self) -> Self:
        self.heard, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in _NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                self._handlers[number] = signal.signal(number, lambda noted, _frame: self._noted.append(noted))
        return self

    def __exit__(self, *_exception: object) -> None:
        signal.set_wakeup_fd(self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self.heard)
        os.close(self._writing)
        if self._noted:
            signal.raise_signal(self._noted[0])

    def check(self) -> None:
        """Raise ApplyError if there was a signal."""
        if self._noted:
            from signal import Signals

            why = f"was interrupted by {Signals(self._noted[0]).name}; what it had done is undone"
            raise ApplyError(f"container {quoted(self._id)}", why, "run the command again", "OGH1522")


def ignore() -> None:
    """Ignore these signals, in a process whose parent notes them: a terminal sends them to both."""
    signal.set_wakeup_fd(-1)
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)
