"""The process that `oci-gpu-runtime create` leaves when it becomes the real runtime, to attach the GPUs it granted.

Granting takes an interpreter, and the hook that the real runtime starts next would be a second one with the same
modules. So the runtime's front starts Python as a child (front/runtime.c), which grants and stays. It waits until the
hook's static front (front/standby.c) hands it the OCI state, does what the hook would do, and returns what the hook
would say and its exit status. It has the namespaces and the rights of the runtime, as the hook would have. If there is
no such process, the front starts Python as it does for other engines.

The two meet at a pair of FIFOs in the state directory, which only its owner can write to; the hook's command line in
the bundle's config.json has their path. Until it has the state it ends with the runtime (front/children.c). Once it has
that, it is the hook: it outlives the runtime, and if it is killed, the container does not start.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import inherited, log, processes, state, streams, syscalls
from oci_gpu_hook.base.errors import StateError, reason
from oci_gpu_hook.base.files import read_start
from oci_gpu_hook.base.processes import lives, start_time
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn, Self

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.lifecycle.granted import Granted

DIRECTORY: Final = "standby"
_STATE: Final = ".state"  # the hook's front writes the OCI state to it
_ANSWER: Final = ".answer"  # a byte as it begins, what is to be said on stderr, NUL, and a digit: the exit status
_ELF: Final = b"\x7fELF"
_STANDARD: Final = (0, 1, 2)


class Standby(Record):
    """Where the two meet. path: of the FIFOs, without their endings. state, answer: descriptors of them.

    While `state` is open, the front's attempt to write succeeds; when `answer` is closed, the front reads the end.
    """

    path: str
    state: int
    answer: int

    @classmethod
    def offer(cls, hook: str, config: Config) -> Self | None:
        """Return a new one; None if the hook is not the static front, or the state directory takes no FIFOs."""
        try:
            return cls._made(config) if read_start(hook, len(_ELF)) == _ELF else None
        except (OSError, StateError) as error:
            why = reason(error) if isinstance(error, OSError) else str(error)
            log.debug("the hook starts Python", reason=why)
            return None

    @classmethod
    def _made(cls, config: Config) -> Self:
        directory = state.directory(config.state_dir, DIRECTORY)
        _sweep(directory)
        own = os.getpid()
        path = f"{directory}/{own}-{start_time(own)}"
        flags = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        for end in (_STATE, _ANSWER):
            os.mkfifo(path + end, 0o600)
        return cls(
            path=path,
            state=os.open(path + _STATE, os.O_RDONLY | flags),
            answer=os.open(path + _ANSWER, os.O_RDWR | flags),
        )

    def remove(self) -> None:
        """Remove the FIFOs."""
        for end in (_STATE, _ANSWER):
            _drop(self.path + end)

    def leave_behind(self, granted: Granted) -> None:
        """Fork the process that waits for the hook. If that fails, the hook's front starts Python."""
        runtime = os.getpid()
        try:
            if os.fork() == 0:
                self._serve_with(runtime, granted)
        except OSError as error:
            log.debug("the hook starts Python", reason=reason(error))

    def _serve_with(self, runtime: int, granted: Granted) -> NoReturn:
        try:
            syscalls.die_with_parent()
            if os.getppid() == runtime:  # else it ended before the kernel knew
                self.serve(granted)
        finally:
            os._exit(1)

    def serve(self, granted: Granted) -> NoReturn:
        """Wait for the hook of the container, do its work, and end this process."""
        status = 1
        try:
            self._let_go()
            os.chdir("/")
            from oci_gpu_hook.entrypoints import hook
            from oci_gpu_hook.lifecycle import start  # noqa: F401  now, while the runtime makes the container

            asked = os.open(self.path + _STATE, os.O_RDONLY | os.O_CLOEXEC)  # waits until the hook opens it
            syscalls.outlive_parent()
            processes.act_for(0)
            os.dup2(asked, 0)
            os.close(asked)
            os.close(self.state)
            self.remove()
            streams.write(b"+")  # the hook closes the FIFO when it sees that it is taken
            status = hook.run(["prestart"], granted)
            streams.write(b"\0%d" % status)
        finally:
            os._exit(status)

    def _let_go(self) -> None:
        """Close what the engine may wait for, and have stderr lead to the hook's front."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for standard, fd in zip(_STANDARD, (null, null, self.answer), strict=True):
            os.dup2(fd, standard)
        os.set_blocking(2, True)
        inherited.close_all_but(*_STANDARD, self.state)


def _sweep(directory: str) -> None:
    """Remove the FIFOs of processes that were killed while they waited."""
    for name in os.listdir(directory):
        pid, _, rest = name.partition("-")
        started = rest.partition(".")[0]
        if not (pid.isdecimal() and started.isdecimal() and lives(int(pid), int(started))):
            _drop(f"{directory}/{name}")


def _drop(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # removed already
