"""Brings up the MPS daemon of a container, beside the rest of the start, and sets its limits before the container runs.

A child process does it: it starts the driver's own nvidia-cuda-mps-control, as a transient service of systemd or in a
its own cgroup, waits until the daemon answers, and sets the limits that its clients can only lower.

A daemon that is no service of systemd becomes a child of the runtime or of the engine's shim. Some of these wait for
all of their children before they have `poststop` run (`crun run`), so a process stays that ends it with the container.
"""

from __future__ import annotations

import os
from time import monotonic, sleep

from oci_gpu_hook.apply.mps import ending, group, place
from oci_gpu_hook.base import inherited, limits, syscalls
from oci_gpu_hook.base.cpython import signals
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import ApplyError, HookError, described_bug, quoted, reason
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.processes import parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.devices.model import Limiter

_PIECE: Final = 1 << 12
# Seconds before a socket is looked for again, and the daemon asked again for the first time; later it is asked after
# twice the time, up to the second of these: each question starts a program.
_PAUSES: Final = (0.002, 0.05)
_READABLE: Final = 1  # POLLIN: a pidfd's process has ended
_BUS: Final = "/run/systemd/private"
_WHAT: Final = "MPS daemon of the container"
_REMEDY: Final = 'check that nvidia-cuda-mps-control -d works on the host, or set [sharing] enforce = "none"'
_ASKED: Final = "get_default_active_thread_percentage"  # answered with a number, whichever limits were set before
_COMPLAINTS: Final = (b"invalid", b"error", b"fail", b"cannot", b"unknown", b"denied")
_NOT_FOUND: Final = 127


class Daemon:
    """A daemon that is coming up. `wait` returns when its limits are set; `end` ends it."""

    def __init__(self, state_dir: str, pid: int, limiter: Limiter) -> None:
        """Begin. pid: of the container's first process. Raises HookError."""
        if _is_inside(pid) and not os.access(_BUS, os.F_OK):
            why = "would run in the container's namespaces, since this host has no systemd to start it"
            raise ApplyError(_WHAT, why, 'run systemd on the host, or set [sharing] enforce = "none"', "OGH1510")
        _import_now()
        self._state_dir = state_dir
        self._name = place.name_of(pid)
        if self._name in place.names(state_dir):
            ending.end(state_dir, self._name)
        place.make(state_dir, self._name)
        self._was_killed = False
        self._reading, writing = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            _Child(state_dir, pid, limiter, writing).run()
        os.close(writing)

    def wait(self) -> None:
        """Wait until the limits are set. Raises ApplyError if they cannot be."""
        try:
            answer = parse(self._collect(), "answer")
        except HookError:
            late = f"did not come up within {limits.MPS_SECONDS:.0f} s"
            answer = ["", "did not come up: the process that starts it was killed" if self._was_killed else late]
        if answer:
            what, why = answer
            last = self._last_line()
            raise ApplyError(
                what or _WHAT, why + (f"; its log ends with {quoted(last)}" if last else ""), _REMEDY, "OGH1510"
            )

    def end(self) -> None:
        """End the daemon, when it has come up or failed to: one that is coming up could not be found."""
        self._collect()
        ending.end(self._state_dir, self._name)

    def _collect(self) -> bytes:
        """Wait until the child has ended, which it does when its time is up; return what it has said."""
        child, self._child = self._child, 0
        said = bytearray()
        if child:
            while piece := os.read(self._reading, _PIECE):
                said += piece
            os.close(self._reading)
            try:
                _, status = os.waitpid(child, 0)
                self._was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == syscalls.SIGKILL
            except ChildProcessError:
                pass  # this is another process by now (apply.watch), and its parent reaps it
        return bytes(said)

    def _last_line(self) -> str:
        try:
            text = read_file(f"{place.log_of(self._state_dir, self._name)}/control.log", limits.MPS_SAID)
        except (OSError, HookError):
            return ""
        return text.strip().rpartition(b"\n")[2].decode("utf-8", "replace")


class _Child:
    """The process that brings a daemon up. It holds nothing open that an engine waits for."""

    def __init__(self, state_dir: str, pid: int, limiter: Limiter, writing: int) -> None:
        self._state_dir = state_dir
        self._pid = pid
        self._name = name = place.name_of(pid)
        self._limiter = limiter
        self._writing = writing
        self._by_systemd = os.access(_BUS, os.F_OK)
        self._give_up = monotonic() + limits.MPS_SECONDS
        pipe, log = place.pipe_of(state_dir, name), place.log_of(state_dir, name)
        self._environment = {
            **dict(limiter.environment),
            "CUDA_MPS_PIPE_DIRECTORY": pipe,
            "CUDA_MPS_LOG_DIRECTORY": log,
        }

    def run(self) -> None:
        """Do it, tell how it went, and exit."""
        try:
            inherited.close_all_but(self._writing)
            for _ in range(3):
                os.open("/dev/null", os.O_RDWR)
            signals.unblock()
            syscalls.die_with_parent()
            signals.die_after(int(limits.MPS_SECONDS) + 1)
            os.umask(0o022)
            os.chdir("/")
            said = self._said()
            if not said and not self._by_systemd and os.fork() == 0:
                os.close(self._writing)
                self._watch()
            else:
                os.write(self._writing, dump(said))
        finally:
            os._exit(0)

    def _watch(self) -> None:
        """End the daemon when the container's first process has ended."""
        from select import poll

        try:
            waiting = poll()
            waiting.register(os.pidfd_open(self._pid), _READABLE)
            waiting.poll()
        except ProcessLookupError:
            pass  # it has ended already
        ending.end(self._state_dir, self._name)

    def _said(self) -> list[str]:
        """Return nothing, or what went wrong and why."""
        try:
            if self._by_systemd:
                self._start_service()
            else:
                self._start_in_group()
            self._set_limits()
        except HookError as error:
            return [error.what, error.why]
        except OSError as error:
            return ["", reason(error)]
        except Exception as error:  # noqa: BLE001  a bug, which the other process reports
            return ["", described_bug(error)]
        return []

    def _start_service(self) -> None:
        from oci_gpu_hook.apply.systemd import private_bus

        command = (self._limiter.program, "-d")
        private_bus.start_service(group.unit_of(self._name), command, self._environment)

    def _start_in_group(self) -> None:
        def enter() -> None:
            group.enter(self._name)
            os.setsid()

        status, _ = self._run(("-d",), b"", enter)
        if status:
            raise ApplyError("", f"nvidia-cuda-mps-control -d ended with status {status}", "", "OGH1510")

    def _set_limits(self) -> None:
        """Set the limits, again and again until the daemon answers. Raises ApplyError.

        Not every command is answered, and the control program ends with 0 when the daemon dies with the commands
        unread. So a question is the last of them, and its answer says that the others were obeyed.
        """
        text = "".join(f"{command}\n" for command in (*self._limiter.commands, _ASKED)).encode()
        pause, slowest = _PAUSES
        while True:
            status, said = 1, b"it has no socket"
            is_asked = os.access(place.socket_of(self._state_dir, self._name), os.F_OK)
            if is_asked:
                status, said = self._run((), text)
                wrong = [line for line in said.split(b"\n") if any(word in line.lower() for word in _COMPLAINTS)]
                if not status and not wrong and said.strip():
                    return
                said = wrong[0] if wrong else said.strip() or b"no answer"
            if monotonic() > self._give_up:
                why = f"does not accept its limits: status {status}, {quoted(said.decode('utf-8', 'replace').strip())}"
                raise ApplyError("", why, "", "OGH1510")
            sleep(pause)
            if is_asked:
                pause = min(2 * pause, slowest)

    def _run(self, arguments: tuple[str, ...], text: bytes, before: object = None) -> tuple[int, bytes]:
        """Run the control program with a text on stdin; return its exit status and what it said."""
        said, saying = os.pipe()
        hearing, told = os.pipe()
        own = os.getpid()
        child = os.fork()
        if child == 0:
            syscalls.die_with_parent()  # the program, and not the daemon that it forks
            if os.getppid() != own:
                os._exit(_NOT_FOUND)
            self._execute(arguments, hearing, saying, before)
        os.close(saying)
        os.close(hearing)
        try:
            os.write(told, text)
        except BrokenPipeError:
            pass  # it has ended, which its status says
        os.close(told)
        heard = bytearray()
        while len(heard) < limits.MPS_SAID and (piece := os.read(said, _PIECE)):
            heard += piece
        os.close(said)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, bytes(heard)

    def _execute(self, arguments: tuple[str, ...], hearing: int, saying: int, before: object) -> None:
        program = self._limiter.program
        try:
            if callable(before):
                before()
            else:  # a daemon would keep the pipe open
                os.dup2(saying, 1)
                os.dup2(saying, 2)
            os.dup2(hearing, 0)
            signals.restore()
            os.execve(program, (os.path.basename(program), *arguments), self._environment)  # noqa: S606
        finally:
            os._exit(_NOT_FOUND)


def _import_now() -> None:
    """Import what the child needs, which closes the file that modules are read from."""
    import _socket  # noqa: F401
    import select  # noqa: F401

    from oci_gpu_hook.apply.systemd import private_bus  # noqa: F401


def _is_inside(pid: int) -> bool:
    """Tell whether this process is in the container whose first process is `pid`: Mesos has the hook run there."""
    ancestor = int(os.readlink("/proc/self"))
    for _ in range(limits.MESOS_ANCESTORS):
        ancestor = parent(ancestor)
        if ancestor == pid:
            return True
    return False
