"""The loop of `oci-gpu watch`: waits for what systemd and the kernel tell, and for the time of the next look."""

from __future__ import annotations

import os
import selectors
import signal
from time import monotonic

from oci_gpu_hook.apply.systemd import signals
from oci_gpu_hook.base.errors import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from oci_gpu_hook.admin.watch.inventory import Keeper
    from oci_gpu_hook.lifecycle.healing import Healer

# Looks after a reload, in seconds. systemd writes device rules again after it has told that the reload is done.
_AFTER_RELOAD: Final = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0, 5.0)
_AFTER_CHANGE: Final = (0.1, 0.5)  # of a property of a container's unit
_SOONEST: Final = 0.05  # seconds between two looks


class Watch:
    """The state of the loop. interval: seconds from look to look while nothing happens. root: of the host's files."""

    def __init__(
        self, healer: Healer, keeper: Keeper, tell: Callable[..., object], interval: float, root: str = "/"
    ) -> None:
        self._healer = healer
        self._keeper = keeper
        self._tell = tell
        self._interval = interval
        self._root = root
        self._selector = selectors.DefaultSelector()
        self._listener: signals.Listener | None = None
        self._is_ending = False
        self._is_deaf = False  # whether it was told that there is no connection to systemd
        self._looks: list[float] = []  # the times of looks to come, beside the regular ones
        self.more: list[Callable[[], object]] = []  # what else each look does

    def once(self) -> None:
        """Look at everything once."""
        self._keeper.look()
        for task in self.more:
            task()
        while self._healer.look():
            pass

    def run(self) -> None:
        """Look, and wait, until SIGTERM or SIGINT comes; a repair that is under way is finished first."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.set_wakeup_fd(writing)
        handlers = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        self._selector.register(reading, selectors.EVENT_READ, lambda: os.read(reading, 64))
        try:
            self._go_on()
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(reading)
            os.close(writing)
            if self._listener:
                self._listener.close()

    def wait_for(self, fd: int, act: Callable[[], object]) -> None:
        """Have `act` called whenever a descriptor can be read."""
        self._selector.register(fd, selectors.EVENT_READ, act)

    def _go_on(self) -> None:
        regular = monotonic()
        while not self._is_ending:
            now = monotonic()
            if now >= regular or (self._looks and now >= self._looks[0]):
                is_regular = now >= regular
                if is_regular:
                    regular = now + self._interval
                self._looks = [time for time in self._looks if time > now]
                self._look(is_regular=is_regular)
                continue
            until = min([regular, *self._looks])
            for key, _ in self._selector.select(max(until - now, 0)):
                key.data()

    def _look(self, *, is_regular: bool) -> None:
        _reap()
        self._listen()
        if is_regular:
            for task in self.more:
                task()
        if is_regular and self._keeper.look():
            self._healer.suspect()
        if self._healer.look():
            self._look_again((_SOONEST,))

    def _look_again(self, after: tuple[float, ...]) -> None:
        now = monotonic()
        self._looks = sorted({*self._looks, *(now + seconds for seconds in after)})[: 4 * len(_AFTER_RELOAD)]

    def _listen(self) -> None:
        """Connect to systemd, unless there is a connection."""
        if self._listener or not os.path.isdir(os.path.join(self._root, "run/systemd/system")):
            return
        try:
            self._listener = signals.Listener(self._root)
        except OSError as error:
            if not self._is_deaf:
                self._is_deaf = True
                self._tell("warning", "no connection to systemd", reason=reason(error), interval=self._interval)
            return
        self._is_deaf = False
        listener = self._listener
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._hear(listener))

    def _hear(self, listener: signals.Listener) -> None:
        """Look soon if systemd has reloaded, or changed the unit of a container."""
        try:
            heard = listener.heard()
        except (EOFError, ValueError, OSError):  # it executes itself again, which is a reload
            self._selector.unregister(listener)
            listener.close()
            self._listener = None
            heard = [("", signals.RELOADING)]
        if any(name == signals.RELOADING for _, name in heard):
            self._tell("debug", "systemd reloads")
            self._healer.suspect()
            self._look_again(_AFTER_RELOAD)
        elif heard:
            ours = {signals.path_of(unit) for unit in self._healer.units}
            if any(name == signals.CHANGED and path in ours for path, name in heard):
                self._look_again(_AFTER_CHANGE)

    def _end(self, *_: object) -> None:
        self._is_ending = True


def _reap() -> None:
    """Let go of children that took too long and were given up."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return
