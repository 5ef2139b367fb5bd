"""The process that systemd starts: `oci-gpu-resident [--idle SECONDS]`, with the listening socket as descriptor 3.

It imports what a start imports, keeps a few workers that wait, and forks another whenever one has taken a front, up to
twice as many as there are processors: a worker that has served before does the next start for half of what a new one
takes. Fronts that find all of them busy wait in a queue. Where that does not move, because workers wait for GPUs or a
file system, further ones are forked.

It serves nobody itself, and opens nothing of the host but its own files. It ends when nobody has come for a while, when
it is told to, and when a file that it has imported was replaced; systemd starts the next one at the next connection.
Workers at work are not its to end: they finish what they have begun, as a hook would.
"""

from __future__ import annotations

import _socket
import gc
import os
import signal
from select import POLLIN, poll
from time import monotonic

from oci_gpu_hook.base import limits, streams
from oci_gpu_hook.base.errors import reason
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.entrypoints.resident import rehearsal, worker
from oci_gpu_hook.entrypoints.resident.board import Board
from oci_gpu_hook.entrypoints.resident.build import Build
from oci_gpu_hook.entrypoints.resident.place import Look
from oci_gpu_hook.entrypoints.resident.queue import Queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, NoReturn

_LISTENING: Final = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
_SPARE: Final = 2  # workers that wait
_A_PROCESSOR: Final = 2  # workers, as long as they get on
_STUCK_SECONDS: Final = 0.05  # without a word of any worker
_NO_FORK_SECONDS: Final = 1.0  # until another attempt
_IDLE_SECONDS: Final = 600.0
_FAILURES: Final = 8  # workers in a row that fail before they have a front
_PIECE: Final = 4096
_MILLI: Final = 1000


class Options(Record):
    """The command line. idle: seconds without a front after which the resident ends."""

    idle: float = _IDLE_SECONDS


def main(arguments: Sequence[str], stub: str) -> NoReturn:
    """Serve until the end. stub: what a front of this installation starts."""
    gc.disable()  # a collection would write to every page that the workers share
    os.umask(0o022)
    os.chdir("/")
    began = monotonic()
    status = 1
    try:
        options = _read(arguments[1:])
        _check_socket()
        queue = Queue(_LISTENING)
        status, is_of_use = _serve(stub, options, queue)
        if not is_of_use:
            queue.turn_away(began + limits.RESIDENT_LEAST_SECONDS - monotonic())
    except (OSError, ValueError) as error:
        streams.say(f"oci-gpu-resident: error: {error}")
    finally:
        os._exit(status)


def _serve(stub: str, options: Options, queue: Queue) -> tuple[int, bool]:
    """Serve until the end; return the exit status, and whether the next connection may start another at once."""
    try:
        build = Build.here(stub)
    except (OSError, ValueError) as error:  # an upgrade is under way, or was left half-way
        streams.say(f"oci-gpu-resident: warning: {error}")
        return 0, False
    try:
        _forget_environment()
        rehearsal.rehearse()
        return 0, Manager(build, options, queue).run()
    except OSError as error:
        streams.say(f"oci-gpu-resident: error: {error}")
        return 1, False


class Manager:
    """The workers: those that wait for a front, and those that have one."""

    def __init__(self, build: Build, options: Options, queue: Queue) -> None:
        self._options = options
        self._board = Board()
        self._places: dict[int, int] = {}  # on the board, by pid
        self._failures = 0
        self._queue = queue
        self._ends = self._is_outdated = False
        self._most = self._usual = _A_PROCESSOR * len(os.sched_getaffinity(0))
        self._heard = self._cannot_fork_until = monotonic()
        self._hearing, self._told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._woken, self._waking = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._control, self._alive = os.pipe2(os.O_CLOEXEC)
        self._desk = worker.Desk(
            listening=_LISTENING,
            queue=self._queue.leaving,
            control=self._control,
            told=self._told,
            null=os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC),
            build=build,
            place=Look.at("self").place,
            board=self._board,
            mine=-1,
        )

    def run(self) -> bool:
        """Keep workers waiting until the end. What has been begun goes on without this process.

        Return whether this process was as good as a new one at the end. Raises OSError.
        """
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _do_nothing)
        signal.signal(signal.SIGTERM, self._end)
        events = poll()
        for fd in (self._hearing, self._woken):
            events.register(fd, POLLIN)
        last = monotonic()
        while not self._ends:
            is_waited = self._queue.is_waited_in()
            self._fill(is_waited=is_waited)
            left = last + self._options.idle - monotonic()
            if left <= 0 and not self._board.working():
                break
            has_waiting = self._board.is_waited(_SPARE if len(self._places) < self._most else 1)
            seconds = self._patience(left, is_waited=is_waited, has_waiting=has_waiting)
            ready = self._ready(events, seconds, has_waiting=has_waiting)
            if self._hear(ready) or _LISTENING in ready or self._board.working():
                last = monotonic()
            if self._woken in ready or not ready:
                self._reap()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return not self._is_outdated

    def _patience(self, left: float, *, is_waited: bool, has_waiting: bool) -> float:
        """Return for how long nothing may happen.

        left: the seconds until this process is idle. is_waited: whether fronts wait in the queue. has_waiting: whether
        a worker waits.
        """
        if is_waited:
            return _STUCK_SECONDS
        return max(left if has_waiting else min(left, _NO_FORK_SECONDS), 0)

    def _ready(self, events: poll, seconds: float, *, has_waiting: bool) -> set[int]:
        """Wait until something happens; return the descriptors of which that is so.

        The listening socket is one if a front has come for which no worker was free.
        """
        if has_waiting:
            return {fd for fd, _ in events.poll(seconds * _MILLI)}
        events.register(_LISTENING, POLLIN)
        ready = {fd for fd, _ in events.poll(seconds * _MILLI)}
        events.unregister(_LISTENING)
        if _LISTENING in ready:
            self._queue.receive(can_wait=bool(self._board.working()) and len(self._places) < limits.RESIDENT_WORKERS)
        return ready

    def _end(self, _signal: int, _frame: object) -> None:
        self._ends = True

    def _fill(self, *, is_waited: bool) -> None:
        """Have some workers wait. Where fork fails, for want of processes or memory, it is tried again later."""
        now = monotonic()
        if not is_waited:
            self._most = self._usual
        elif now - self._heard > _STUCK_SECONDS:
            self._most = len(self._places) + 1
        most = min(self._most, limits.RESIDENT_WORKERS)
        while self._board.waiting() < _SPARE and len(self._places) < most and now >= self._cannot_fork_until:
            place = self._board.vacant()
            self._board.enter(place)
            try:
                pid = os.fork()
            except OSError as error:
                self._board.leave(place)
                streams.say(f"oci-gpu-resident: warning: cannot fork: {reason(error)}")
                self._cannot_fork_until = now + _NO_FORK_SECONDS
                return
            if pid == 0:
                self._become_worker(place)
            self._places[pid] = place
            self._heard = now

    def _become_worker(self, place: int) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            for fd in (self._alive, self._hearing, self._woken, self._waking, self._queue.entering):
                os.close(fd)
            worker.serve(self._desk.replace(mine=place))
        finally:
            os._exit(1)

    def _hear(self, ready: set[int]) -> bool:
        """Take note of what workers do and say; tell whether a front has come."""
        if self._woken in ready:
            _drain(self._woken)
        if self._hearing in ready and worker.OUTDATED in _drain(self._hearing):
            self._ends = self._is_outdated = True
        has_come = self._board.has_changed()
        if has_come:
            self._failures = 0
            self._heard = monotonic()
        return has_come

    def _reap(self) -> None:
        """Forget workers that have ended. Raises OSError if they fail without a front, again and again."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._places:
                was_waiting = self._board.leave(self._places.pop(pid))
                self._failures += status != 0 and was_waiting
            if self._failures >= _FAILURES:
                raise ChildProcessError(f"{_FAILURES} workers in a row have failed before a front came")


def _drain(fd: int) -> bytes:
    try:
        return os.read(fd, _PIECE)
    except BlockingIOError:
        return b""


def _do_nothing(_signal: int, _frame: object) -> None:
    """Stand in for SIG_DFL, with which no signal would be noted."""


def _read(words: Sequence[str]) -> Options:
    """Read the command line. Raises ValueError."""
    if not words:
        return Options()
    if len(words) == 2 and words[0] == "--idle":
        return Options(idle=float(words[1]))
    raise ValueError("usage: oci-gpu-resident [--idle SECONDS], with a listening socket as descriptor 3")


def _check_socket() -> None:
    """Raise ValueError if this process was not started for a socket."""
    try:
        socket = _socket.socket(fileno=os.dup(_LISTENING))
        listens = socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
        is_fit = listens and socket.type & 0xF == _socket.SOCK_SEQPACKET
        socket.close()
    except OSError:
        is_fit = False
    if not is_fit:
        raise ValueError(
            "descriptor 3 is not a listening socket; it is started by: systemctl start oci-gpu-hook.socket"
        )


def _forget_environment() -> None:
    """Have the environment that the front gives to Python (front/programs.c)."""
    for entry in read_file("/proc/self/environ", limits.ENVIRONMENT).split(b"\0"):
        if name := entry.partition(b"=")[0]:
            os.unsetenv(name)
    os.unsetenv("LC_CTYPE")  # CPython sets it if there is no locale (PEP 538)
    os.putenv("LC_ALL", "C")
