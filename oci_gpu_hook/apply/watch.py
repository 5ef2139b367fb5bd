"""A bound on the time for which a container's files may keep a hook waiting.

Who looks at a path of a container may come to a volume of FUSE or NFS whose server does not answer, and no call has a
time limit. A second thread has, and where there are such mounts a second process, as a call that waits for a server can
keep its process from being killed.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits, log, mount_table, streams, syscalls
from oci_gpu_hook.base.errors import one_line, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _thread
    from typing import Final, NoReturn, Self

_ROOM: Final = 511  # descriptors; those of all driver files of eight GPUs are below 200
_SIGKILL: Final = 9
_PIECE: Final = 1 << 16


class Watch:
    """Ends this process with one line on stderr where a `with` block takes longer than its limit.

    What was done by then is taken back as after any kill, by `poststop` or the next start. mountinfo, rootfs: of the
    container. Where those show mounts that may never answer, the block and all that follows is done in a child, for
    which this process waits, and which holds nothing that an engine waits for.
    """

    def __init__(self, container_id: str, mountinfo: bytes = b"", rootfs: str = "/") -> None:
        self._container_id = container_id
        self._served = mount_table.may_never_answer(mountinfo, os.fsencode(rootfs))
        self._done: _thread.LockType | None = None

    def __enter__(self) -> Self:
        if self._served:
            self._go_apart()
        else:
            self._start_thread()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._done is not None:
            self._done.release()

    def _start_thread(self) -> None:
        import _thread

        _make_room()
        try:
            syscalls.unshare(syscalls.CLONE_FS)  # may be refused, and then there must be no thread
            done = _thread.allocate_lock()
            done.acquire()
            _thread.start_new_thread(self._wait, (done,))
            self._done = done
            # A mount namespace is entered by those who share their root and working directory with no thread.
            syscalls.unshare(syscalls.CLONE_FS)
        except (OSError, RuntimeError):
            pass  # where no thread is to be had, the engine's own patience is the bound

    def _wait(self, done: _thread.LockType) -> None:
        if not done.acquire(timeout=limits.CONTAINER_FILES_SECONDS):
            self._give_up()

    def _go_apart(self) -> None:
        """Return in a child, and end this process as the child ends, or once its time is up."""
        from oci_gpu_hook.base.cpython import signals  # here and below: few containers have such mounts

        reading, writing = os.pipe()
        child = os.fork()
        if child:
            os.close(writing)
            self._stand_by(child, reading)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for standard, fd in enumerate((null, null, writing)):
            os.dup2(fd, standard)
        os.close(reading)
        syscalls.die_with_parent()  # which an engine may kill
        signals.die_after(int(limits.CONTAINER_FILES_SECONDS) + 1)

    def _stand_by(self, child: int, reading: int) -> NoReturn:
        """Pass on what the child says, until it ends."""
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
            os.kill(child, _SIGKILL)
            self._give_up()
        os._exit(ended[0] if ended[0] >= 0 else 1)

    def _give_up(self) -> NoReturn:
        what = f"container {quoted(self._container_id)}"
        why = f"a file system in it has not answered for {limits.CONTAINER_FILES_SECONDS:.0f} s"
        remedy = "look at its volumes of FUSE and NFS, and at what of the image leads there"
        message = one_line(f"{what}: {why}; {remedy}")
        streams.say(f"oci-gpu-hook: error: {message}")
        try:
            log.refused("oci-gpu-hook", message)  # this thread is in the host's mount namespace
        finally:
            os._exit(1)


def _pass_on(reading: int) -> None:
    try:
        while piece := os.read(reading, _PIECE):
            os.write(2, piece)
    except BlockingIOError:
        return


def _make_room() -> None:
    """Let the table of descriptors grow while this process has one thread.

    Once threads share the table, each doubling of it waits for the kernel's readers (synchronize_rcu in fs/file.c,
    expand_fdtable): 14 ms and more on a host of many cores.
    """
    import fcntl

    try:
        os.close(fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, _ROOM))
    except OSError:
        pass  # a lower limit of open files, or no stderr: the table grows when it must
