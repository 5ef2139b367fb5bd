"""A resident as systemd starts it: with its socket as descriptor 3, and a front that asks it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from oci_gpu_hook.admin.install import front_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.runtime.host import Host

_of_hosts: dict[str, tuple[Resident, socket.socket]] = {}


def lay_front(path: Path, hook: Path, address: Path, interpreter: str = "") -> Path:
    """Copy a hook's front, which is to ask the resident at `address`, and starts `interpreter` where it has one."""
    front = front_file.read_front(str(hook))
    assert front, "the front was not built"
    written = front_file.write_front(
        str(path), "hook", interpreter or front.interpreter, front.stub, resident=str(address)
    )
    assert written
    return path


class Interpreter:
    """An interpreter that counts how often it is started, in place of the one of a hook's front."""

    def __init__(self, hook: Path, directory: Path) -> None:
        front = front_file.read_front(str(hook))
        assert front, "the front was not built"
        self.path = directory / "python"
        self._marks = directory / "marks"
        self.path.write_text(f'#!/bin/sh\necho python >> {self._marks}\nexec {front.interpreter} "$@"\n')
        self.path.chmod(0o755)

    @property
    def starts(self) -> int:
        """How often it was started."""
        return self._marks.read_text().count("\n") if self._marks.exists() else 0


def listen(address: Path, seen: Path | None = None) -> socket.socket:
    """Listen as systemd does. seen: the path by which this process sees the address."""
    place = seen or address
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    umask = os.umask(0o177)
    try:
        listening.bind(str(place))
    finally:
        os.umask(umask)
    listening.listen(128)
    return listening


class Resident:
    """A running one. `log` is where its stderr goes; status: how it has ended."""

    def __init__(self, listening: socket.socket, hook: Path, log: Path, *options: str, before: tuple = ()) -> None:
        front = front_file.read_front(str(hook))
        assert front
        stub = str(Path(front.stub).with_name("oci-gpu-resident.py"))
        command = [*before, front.interpreter, "-ISBXutf8", stub, *options]
        self.log = log
        self.seen: set[int] = set()
        self.status = -1
        with log.open("ab") as said, open(os.devnull, "rb") as nothing:
            fd = os.dup(listening.fileno())
            os.set_inheritable(fd, True)
            actions = [
                (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, said.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, said.fileno(), 2),
                *([(os.POSIX_SPAWN_DUP2, fd, 3), (os.POSIX_SPAWN_CLOSE, fd)] if fd != 3 else []),
            ]
            environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LISTEN_FDS": "1", "TAMPERED": "1"}
            self.pid = os.posix_spawnp(command[0], list(map(str, command)), environment, file_actions=actions)
            os.close(fd)

    def workers(self) -> list[int]:
        """Return the pids of its children."""
        try:
            pids = [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except OSError:
            return []
        self.seen |= {*pids}
        return pids

    def wait_until_ready(self, workers: int = 2) -> None:
        """Wait until so many workers wait, and take no more time."""
        deadline = time.monotonic() + 20
        while len([pid for pid in self.workers() if _waits(pid)]) < workers:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.005)

    def wait_until_all_wait(self) -> None:
        """Wait until none of them is at work."""
        deadline = time.monotonic() + 20
        while not all(map(_waits, self.workers())):
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.005)

    def has_ended(self, seconds: float = 10) -> bool:
        """Tell whether it ends by itself within that time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid, self.status = 0, os.waitstatus_to_exitcode(status)
                return True
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        """End it as systemd does."""
        if self.pid:
            self.workers()
            os.kill(self.pid, signal.SIGTERM)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def end(self) -> None:
        """Stop it, and wait for all of its workers."""
        self.stop()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in self.seen) and time.monotonic() < deadline:
            time.sleep(0.005)


@contextmanager
def resident(directory: Path, hook: Path, *options: str):
    """Yield a resident, and a front that asks it."""
    address = directory / "resident" / "socket"
    listening = listen(address)
    own = lay_front(directory / "oci-gpu-hook", hook, address)
    running = Resident(listening, hook, directory / "resident-said", *options)
    try:
        running.wait_until_ready()
        yield running, own
    finally:
        running.end()
        listening.close()


def address_below(work: Path) -> Path:
    """Return where fronts find the resident of the host that they are on."""
    return work / "resident" / "socket"


def of_host(host: Host, work: Path, hook: Path) -> None:
    """Have a resident on a host of the tests, until `close`."""
    if host.layout in _of_hosts:
        return
    address = address_below(work)
    address.parent.mkdir(mode=0o700, exist_ok=True)
    host.call("mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", address.parent)
    listening = listen(address, host.path(address))
    running = Resident(listening, hook, work / f"resident-{host.layout}", before=tuple(host.command()))
    running.wait_until_ready()
    _of_hosts[host.layout] = (running, listening)


def close() -> None:
    """End all of them."""
    while _of_hosts:
        _, (running, listening) = _of_hosts.popitem()
        running.end()
        listening.close()


def traced(running: Resident, *options: str) -> list[subprocess.Popen[bytes]]:
    """Trace the workers that wait, with strace."""
    running.wait_until_ready()
    tracers = []
    for pid in running.workers():
        tracers.append(subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", *options, "-p", str(pid)]))
        deadline = time.monotonic() + 10
        while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text() and time.monotonic() < deadline:
            time.sleep(0.005)
    return tracers


def _waits(pid: int) -> bool:
    try:
        return "poll" in Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return False
