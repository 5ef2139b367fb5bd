"""A bound on the time for which a container's files may keep a hook waiting.

Who looks at a path of a container may come to a volume of FUSE or NFS whose server does not answer, and no call has a
time limit. A second thread has.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits, log, streams, syscalls
from oci_gpu_hook.base.errors import one_line, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _thread
    from typing import Final, Self

_ROOM: Final = 511  # descriptors; those of all driver files of eight GPUs are below 200


class Watch:
    """Ends this process with one line on stderr where a `with` block takes longer than its limit.

    What was done by then is taken back as after any kill, by `poststop` or the next start. A call that has reached a
    server of FUSE holds the process even then, until the server answers or ends; the line is there already.
    """

    def __init__(self, container_id: str) -> None:
        self._container_id = container_id
        self._done: _thread.LockType | None = None

    def __enter__(self) -> Self:
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
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._done is not None:
            self._done.release()

    def _wait(self, done: _thread.LockType) -> None:
        if done.acquire(timeout=limits.CONTAINER_FILES_SECONDS):
            return
        what = f"container {quoted(self._container_id)}"
        why = f"a file system in it has not answered for {limits.CONTAINER_FILES_SECONDS:.0f} s"
        remedy = "look at its volumes of FUSE and NFS, and at what of the image leads there"
        message = one_line(f"{what}: {why}; {remedy}")
        streams.say(f"oci-gpu-hook: error: {message}")
        try:
            log.refused("oci-gpu-hook", message)  # this thread is in the host's mount namespace
        finally:
            os._exit(1)


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
