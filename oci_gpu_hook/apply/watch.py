"""Limits the time for which a container's files may keep a hook waiting.

A path of a container may lead to a FUSE or NFS volume whose server does not answer, and system calls have no time
limit. So a second thread ends the process in time. If the container has such mounts, the work is done in a child
process, since a process cannot always be killed while it waits for a server.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits, log, mount_table, streams, syscalls
from oci_gpu_hook.base.errors import coded, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _thread
    from collections.abc import Callable
    from typing import Final, NoReturn, Protocol, Self

    class Timer(Protocol):
        """A thread that is there already."""

        def begin(self, give_up: Callable[[], NoReturn]) -> bool:
            """Return whether `give_up` will be called unless `end` is, within the limit."""

        def end(self) -> None:
            """Call nothing any more."""


_ROOM: Final = 511  # descriptors; all driver files of eight GPUs need fewer than 200
_PIECE: Final = 1 << 16
_NO_ANSWER: Final = "OGH1513"

_timer: Timer | None = None


def time_by(timer: Timer) -> None:
    """Have a thread of this process used for all that is watched, in place of one for each."""
    global _timer
    _timer = timer


class Watch:
    """Ends this process with one line on stderr if a `with` block takes longer than its limit.

    What was done by then is undone as after any kill, by `poststop` or the next start. mountinfo, rootfs: of the
    container. If they show mounts that may never answer, the block and all that follows runs in a child process, for
    which this process waits, and which keeps nothing open that an engine waits for.
    """

    def __init__(self, container_id: str, mountinfo: bytes = b"", rootfs: str = "/") -> None:
        self._container_id = container_id
        self._served = mount_table.may_never_answer(mountinfo, os.fsencode(rootfs))
        self._done: _thread.LockType | None = None

    def __enter__(self) -> Self:
        if self._served:
            self._go_apart()
        elif not (_timer and _timer.begin(self._give_up)):
            self._start_thread()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._done is not None:
            self._done.release()
        elif _timer:
            _timer.end()

    def _start_thread(self) -> None:
        import _thread

        make_room()
        try:
            syscalls.unshare(syscalls.CLONE_FS)  # if this is refused, there must be no thread
            done = _thread.allocate_lock()
            done.acquire()
            _thread.start_new_thread(self._wait, (done,))
            self._done = done
            # A thread can enter a mount namespace only if it shares its root and working directory with no other.
            syscalls.unshare(syscalls.CLONE_FS)
        except (OSError, RuntimeError):
            pass  # without a thread only the engine's own time limit applies

    def _wait(self, done: _thread.LockType) -> None:
        if not done.acquire(timeout=limits.CONTAINER_FILES_SECONDS):
            self._give_up()

    def _go_apart(self) -> None:
        """Return in a child process only; end this process when the child ends, or when the time is up."""
        from oci_gpu_hook.base import apart  # imported here and below, since few containers have such mounts

        reading, writing = os.pipe()
        child = os.fork()
        if child:
            os.close(writing)
            self._stand_by(child, reading)
        os.close(reading)
        apart.become(limits.CONTAINER_FILES_SECONDS, writing)

    def _stand_by(self, child: int, reading: int) -> NoReturn:
        """Pass on the child's output until it ends."""
        from oci_gpu_hook.base.locks import wait_until

        os.set_blocking(reading, False)
        ended = []

        def is_over() -> bool:
            number, status = os.waitpid(child, os.WNOHANG)
            if number:
                ended.append(os.waitstatus_to_exitcode(status))
            _pass_on(reading)
            return bool(ended)

        if not wait_until(is_over, limits.CONTAINER_FILES_SECONDS):
            os.kill(child, syscalls.SIGKILL)
            self._give_up()
        streams.leave(ended[0] if ended[0] >= 0 else 1)

    def _give_up(self) -> NoReturn:
        what = f"container {quoted(self._container_id)}"
        why = f"a file system in it has not answered for {limits.CONTAINER_FILES_SECONDS:.0f} s"
        remedy = "check its FUSE and NFS volumes, and which paths of the image lead there"
        message = f"{what}: {why}; {remedy}"
        streams.say(f"oci-gpu-hook: error: {coded(message, _NO_ANSWER)}")
        try:
            # In the host's mount namespace, where this thread or process still is.
            log.refused("oci-gpu-hook", message, _NO_ANSWER)
        finally:
            streams.leave(1)


def _pass_on(reading: int) -> None:
    try:
        while piece := os.read(reading, _PIECE):
            streams.write(piece)
    except BlockingIOError:
        return


def make_room() -> None:
    """Enlarge the table of descriptors while this process has only one thread.

    When threads share the table, each enlargement waits for the kernel's readers (synchronize_rcu in fs/file.c,
    expand_fdtable), which takes 14 ms and more on a host with many cores.
    """
    import fcntl

    try:
        os.close(fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, _ROOM))
    except OSError:
        pass  # a lower limit of open files, or no stderr: the table grows when necessary
