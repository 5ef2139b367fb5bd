"""A machine for engines: a mount namespace whose /etc and /usr may be changed, with this project installed in it.

Engines and containers run in it as they do on a real host; nothing of it reaches the real one, and it goes away as a
whole. The package is copied, so that users of rootless engines can read it wherever the checkout is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import oci_gpu_hook
from tests.runtime.host import Host
from tests.runtime.simulated import SimulatedHost

PACKAGE = Path(oci_gpu_hook.__file__).parent
TIMEOUT = 120


class EngineMachine:
    """The namespace, the directory of its own on the real disk, and the simulated GPUs in it."""

    def __init__(self, work: Path, image: Path, simulated: SimulatedHost, host: Host | None = None) -> None:
        self.work = work
        self.image = image
        self.simulated = simulated
        self.daemons: list[subprocess.Popen] = []
        self.host = host or Host(work.parent, "v1-only")
        for name in ("etc", "usr", "var/lib"):
            self.overlay(name)
        self.host.call("mkdir", "-p", "/var/lib/containers")  # on which engines put an overlay of their own
        for directory in ("/run", "/var/lib/containers"):
            self.host.call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
        self.write("/etc/oci-gpu-hook/config.toml", simulated.config.read_text())
        shutil.copytree(PACKAGE, work / "lib/oci_gpu_hook", ignore=shutil.ignore_patterns("__pycache__"))
        self.libexec = work / "libexec"

    def overlay(self, name: str) -> None:
        """Let a directory at the root be changed."""
        layers = self.work / f"layers-{name.replace('/', '-')}"
        layers.mkdir()
        self.host.call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", layers)
        self.host.call("mkdir", layers / "upper", layers / "work")
        options = f"lowerdir=/{name},upperdir={layers}/upper,workdir={layers}/work"
        self.host.call("mount", "-t", "overlay", "overlay", "-o", options, f"/{name}")

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine."""
        there = self.path(path)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text)

    def path(self, path: object) -> Path:
        """Return a path by which this process sees `path` of the machine."""
        return self.host.path(path)

    def oci_gpu(self, *arguments: object) -> str:
        """Run the command for people on the machine; return its stdout."""
        return self.run(*self.command(*arguments)).stdout

    def command(self, *arguments: object) -> tuple[object, ...]:
        """Return the command for people as the machine has it."""
        return self.python("-m", "oci_gpu_hook.admin.cli.main", *arguments)

    def python(self, *arguments: object) -> tuple[object, ...]:
        """Return a command of Python's that finds the package as the machine has it."""
        return ("env", f"PYTHONPATH={self.work}/lib", sys.executable, *arguments)

    def run(self, *command: object, check: bool = True, **options) -> subprocess.CompletedProcess[str]:
        """Run a program on the machine to its end."""
        done = subprocess.run(
            self.host.command(*command), capture_output=True, text=True, check=False, timeout=TIMEOUT, **options
        )
        assert not check or done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *command: object, until: tuple[object, ...]) -> subprocess.Popen:
        """Start a daemon and wait until a command succeeds that asks it for something."""
        name = os.path.basename(str(command[0]))
        with (self.work / f"{name}.log").open("ab") as log:
            daemon = subprocess.Popen(self.host.command(*command), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.daemons.append(daemon)
        give_up = time.monotonic() + 60
        while self.run(*until, check=False).returncode:
            ended = daemon.poll() is not None
            if ended or time.monotonic() > give_up:
                raise AssertionError(f"{name} does not answer\n{(self.work / f'{name}.log').read_text()[-3000:]}")
            time.sleep(0.1)
        return daemon

    def leases(self) -> list[dict]:
        """Return the living leases, as people are shown them."""
        import json

        return json.loads(self.oci_gpu("leases", "--json"))

    def close(self) -> None:
        """Stop the daemons, then whatever else still runs in the namespace; and the namespace with its mounts."""
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
        deadline = time.monotonic() + 20
        while (left := self._left()) and time.monotonic() < deadline:  # they are gone a moment after they are killed
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        self.host.remove_cgroups(self.cgroup)
        self.host.close()

    def kill_user(self, uid: int) -> None:
        """End every process of a user of the machine; Podman leaves one that holds the user's namespaces."""
        for name in os.listdir("/proc"):
            try:
                if name.isdecimal() and os.stat(f"/proc/{name}").st_uid == uid:
                    os.kill(int(name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue

    @property
    def cgroup(self) -> str:
        """The name of the cgroup that engines are told to put containers below."""
        return f"oci-gpu-engines-{os.getpid()}"

    def _left(self) -> list[int]:
        """Return the processes in the namespace other than the one that holds it."""
        holder = self.host._holder.pid
        namespace = os.readlink(f"/proc/{holder}/ns/mnt")
        found = []
        for name in os.listdir("/proc"):
            try:
                if name.isdecimal() and os.readlink(f"/proc/{name}/ns/mnt") == namespace and int(name) != holder:
                    found.append(int(name))
            except OSError:
                continue
        return found
