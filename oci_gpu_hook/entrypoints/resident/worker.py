"""A worker of the resident: waits for a front, judges it, and does what that hook's Python would do.

It begins when the front says go, and not before: a front that hears no, or nothing for too long, starts Python. From
then on it is the hook. Its stdin, stdout and stderr are the front's; the front ends with its status. If the front dies,
as an engine kills a hook, the work is rolled back. A worker that is killed leaves what a killed hook leaves.

It serves another front only after a start that succeeded and that has left the process as it was (`unchanged.py`).
"""

from __future__ import annotations

import _socket
import os
from select import EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN, POLLHUP, epoll, poll

from oci_gpu_hook.base import limits, log, processes, streams
from oci_gpu_hook.base.errors import BUG, coded
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.entrypoints import hook, runtime
from oci_gpu_hook.entrypoints.resident import LOOK, NO, READY, timer
from oci_gpu_hook.entrypoints.resident.handed import Handed
from oci_gpu_hook.entrypoints.resident.hearing import (
    GO,
    STANDARD,
    enter_directory,
    heard,
    is_in_memory,
    last_word,
    peer,
)
from oci_gpu_hook.entrypoints.resident.place import Look, open_process
from oci_gpu_hook.entrypoints.resident.queue import take
from oci_gpu_hook.entrypoints.resident.stderr import Stderr
from oci_gpu_hook.entrypoints.resident.unchanged import Before

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn

    from oci_gpu_hook.entrypoints.resident.board import Board
    from oci_gpu_hook.entrypoints.resident.build import Build
    from oci_gpu_hook.entrypoints.resident.hearing import Call
    from oci_gpu_hook.entrypoints.resident.place import Place
    from oci_gpu_hook.lifecycle.granted import Granted

# What a worker tells the manager:
LOOK_UP: Final = b"L"  # there is something to do, which the board shows
OUTDATED: Final = b"O"  # what has been imported is no longer what a start by Python would import

_HOOK: Final = "hook"
_RUNTIME: Final = "runtime"
_WITHOUT_LIMIT: Final = -1.0  # epoll_wait(2)
_STAGES: Final = ("prestart", "createRuntime", "poststop")
_KIND: Final = (_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0)


class Desk(Record):
    """What a worker has of the manager. control: is closed when the manager ends. told: for what a worker tells it.

    queue: holds the connections of fronts that came when no worker was free. null: what the standard descriptors lead
    to between two fronts. board, mine: the worker's place on the board.
    """

    listening: int
    queue: int
    control: int
    told: int
    null: int
    build: Build
    place: Place
    board: Board
    mine: int

    def take(self) -> None:
        """Note that this worker has a front."""
        if self.board.take(self.mine):
            self.tell(LOOK_UP)

    def go_on(self) -> None:
        """Note that this worker has another front."""
        self.board.go_on(self.mine)

    def release(self) -> None:
        """Note that this worker waits again."""
        if self.board.release(self.mine):
            self.tell(LOOK_UP)

    def tell(self, what: bytes) -> None:
        """Tell the manager."""
        try:
            os.write(self.told, what)
        except (BlockingIOError, BrokenPipeError):
            pass  # it has been told so often that it will look, or it has ended


def serve(desk: Desk) -> NoReturn:
    """Serve fronts until something is not as it was before, and end this process."""
    status = 1
    try:
        entrance = _Entrance(desk)
        timer.start()
        before = Before.now(desk.place)
        handed: Handed | None = None
        for number in range(limits.RESIDENT_STARTS):
            connection = entrance.next() if number else entrance.first()
            if connection is None:
                break
            handed = _attend(connection, desk, handed)
            connection.close()
            before.set_back()
            if not before.is_now():
                break
        status = 0
    except Exception as error:  # noqa: BLE001  a bug; the front's stderr is this process's by then
        streams.say(f"oci-gpu-hook: error: {coded(hook.describe_bug(error), BUG)}")
    finally:
        os._exit(status)


class _Entrance:
    """Where fronts come in, those of the queue first. Of the workers that wait one is woken for each."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._listening: Any = _socket.socket(*_KIND, fileno=desk.listening)
        self._queue: Any = _socket.socket(*_KIND, fileno=desk.queue)
        self._events = epoll()
        for fd in (desk.listening, desk.queue):
            self._events.register(fd, EPOLLIN | EPOLLEXCLUSIVE)
        self._events.register(desk.control, EPOLLHUP)

    def first(self) -> Any:
        """Return a connection; None when the manager has ended."""
        return self._awaited(_WITHOUT_LIMIT)

    def next(self) -> Any:
        """Return a connection; None when the manager has ended, or nobody has come for long enough."""
        if connection := self._connection(0):
            self._desk.go_on()
            return connection
        self._desk.release()
        return self._awaited(limits.RESIDENT_REST_SECONDS)

    def _awaited(self, seconds: float) -> Any:
        connection = self._connection(seconds)
        if connection:
            self._desk.take()
        return connection

    def _connection(self, seconds: float) -> Any:
        while ready := [fd for fd, _ in self._events.poll(seconds)]:
            if self._desk.control in ready:
                return None
            try:
                fd = take(self._queue) if self._desk.queue in ready else self._listening._accept()[0]  # noqa: SLF001
            except BlockingIOError:  # another worker was faster
                continue
            return _socket.socket(*_KIND, fileno=fd)
        return None


def _attend(connection: Any, desk: Desk, handed: Handed | None) -> Handed | None:
    """Serve a front that asks for what this process can do as well as Python; others are to start Python.

    handed: what this process has granted last. Return what it has granted now.
    """
    connection.settimeout(limits.RESIDENT_SECONDS)
    connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
    descriptors: list[int] = []
    agreed = None
    try:
        agreed = _agreed(connection, desk, descriptors)
    except (OSError, ValueError):
        pass  # the front is gone, or was never one
    finally:
        if agreed is None:
            _refuse(connection, descriptors)
    if agreed:
        call, front, look = agreed
        _take(descriptors, look.umask)
        granted = handed.to_hook(call.arguments, look.parent) if handed and call.role == _HOOK else None
        handed = _work(call, front, connection, desk, granted)
    return handed


def _refuse(connection: Any, descriptors: list[int]) -> None:
    """Have a front start Python. It may have said go, but nothing was done."""
    for fd in descriptors:
        os.close(fd)
    try:
        connection.send(NO)
    except OSError:
        pass  # it is gone


def _agreed(connection: Any, desk: Desk, descriptors: list[int]) -> tuple[Call, int, Look] | None:
    """Return what to do, the front's pid and what it is, once it has said go; None if it is not to be served.

    descriptors: gets those that it hands over. Raises OSError, ValueError.
    """
    call = heard(connection)
    front = peer(connection)
    if call is None or not front or not _is_of_this_build(call, desk):
        return None
    process = open_process(front)
    try:
        connection.send(READY)
        said = last_word(connection, front, descriptors)
        if said not in {GO, LOOK}:
            return None
        look = Look.through(process)  # it lives, so that it has had this pid since, and the last word was its own
        if look.place != desk.place:
            return None
        if said == LOOK:
            connection.send(READY)
            return None
        if call.role == _RUNTIME:
            enter_directory(process)
        elif not is_in_memory(descriptors[0]):
            return None
        return call, front, look
    finally:
        os.close(process)


def _is_of_this_build(call: Call, desk: Desk) -> bool:
    """Tell whether Python would do what this process does."""
    if call.stub != desk.build.stubs.get(call.role) or (call.role == _HOOK and call.arguments[-1] not in _STAGES):
        return False
    if desk.build.is_current():
        return True
    desk.tell(OUTDATED)
    return False


def _take(descriptors: list[int], umask: int) -> None:
    """Take what a hook has when it begins."""
    for standard, fd in zip(STANDARD, descriptors, strict=True):
        os.dup2(fd, standard)
        os.close(fd)
    os.umask(umask)


def _work(call: Call, front: int, connection: Any, desk: Desk, granted: Granted | None) -> Handed | None:
    """Do what the hook or the runtime's Python does, and tell the front its status. After a failure, end.

    granted: to the hook's container. Return what the runtime's was granted.
    """
    own = os.getpid()
    closing = poll()
    closing.register(connection.fileno(), POLLHUP)

    def tell(status: int) -> None:
        if os.getpid() != own:
            return  # apply.watch has gone on in a child process; this process tells when that has ended
        for standard in STANDARD:  # first, since an engine waits until its pipes are closed
            os.dup2(desk.null, standard)
        try:
            connection.send(b"%d" % status)
        except OSError:
            pass  # the front has died meanwhile

    def has_ended() -> bool:
        return bool(closing.poll(0))

    connection.settimeout(None)
    log.forget()
    streams.before_leaving(tell)
    streams.write_by(Stderr(has_ended).write)
    processes.act_for(front, has_ended)
    prepared = None
    if call.role == _RUNTIME:
        status, prepared = runtime.prepare_for((call.stub, *call.arguments), call.program)
    else:
        status = hook.run(call.arguments, granted)
    if status or os.getpid() != own:
        streams.leave(status)
    tell(status)
    return Handed.by_runtime(front, prepared)
