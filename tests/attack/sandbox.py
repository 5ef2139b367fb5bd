"""A container as the hook meets it, without a runtime: its process, its bundle, and the hook run on it as engines do.

A runtime takes a third of a second for a container; this takes a hundredth, so that every trap can be tried alone.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.runtime.host import Host
from tests.runtime.simulated import SimulatedHost

SCRIPT = Path(__file__).with_name("sandbox.sh")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
ASKING = ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all")
WARNING = "oci-gpu-hook: warning: "
_LINE = re.compile(r"oci-gpu-hook: error: [^\n]+: [^\n]+; [^\n]+\n")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Outcome:
    """How the hook ended. `refused` is its line; "" when it did what was asked."""

    refused: str

    @classmethod
    def of(cls, status: int, stdout: str, stderr: str) -> Outcome:
        """Read what the hook wrote. Fails the test for anything but success in silence or one line of refusal."""
        assert stdout == ""
        if status == 0:
            assert stderr == ""
            return cls("")
        assert status == 1, (status, stderr)
        assert _LINE.fullmatch(stderr), stderr
        assert "internal error" not in stderr, stderr
        assert stderr.rstrip("\n").isprintable(), stderr
        return cls(stderr.strip())


@dataclass
class Sandbox:
    """A process in a mount namespace of its own, on `host`, whose rootfs is `rootfs`; leave the `with` block to end it.

    systems: which of proc and dev the rootfs has a file system of its own for.
    """

    host: Host
    simulated: SimulatedHost
    hook: Path
    cgroup: str
    rootfs: Path
    systems: tuple[str, ...] = ("proc", "dev")
    env: tuple[str, ...] = ASKING
    id: str = field(default_factory=lambda: f"attack-{os.getpid()}-{next(_numbers)}")
    cgroup_name: str = ""

    def __enter__(self) -> Self:
        command = self.host.command(
            "unshare", "--mount", "--propagation", "unchanged", "sh", SCRIPT, self.rootfs, *self.systems
        )
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n", self._process.communicate()[1]
        self._join_cgroup()
        self._write_bundle()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()
        self._process.stderr.close()
        self.host.remove_cgroups(self.cgroup_name or self.id)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def bundle(self) -> Path:
        return self.rootfs.parent

    def mounts(self) -> list[str]:
        return Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()

    def path(self, path: str) -> Path:
        """Return a path by which this process sees `path` of the container, its mounts included."""
        return Path(f"/proc/{self.pid}/root{self.rootfs}{path}")

    def state(self, status: str = "creating") -> bytes:
        pid = 0 if status == "stopped" else self.pid
        facts = {"ociVersion": "1.0.2", "id": self.id, "status": status, "pid": pid, "bundle": str(self.bundle)}
        return json.dumps(facts).encode()

    def command(self, stage: str) -> list[str]:
        return self.host.command(self.hook, "--config", self.simulated.config, stage)

    def attach(self, timeout: float = 30, *, warns: bool = False) -> Outcome:
        """Run the hook as a runtime does at prestart."""
        return self.run(self.command("prestart"), self.state(), ENVIRONMENT, timeout, warns=warns)

    def release(self) -> Outcome:
        """Run the hook as a runtime does when the container has ended."""
        return self.run(self.command("poststop"), self.state("stopped"), ENVIRONMENT)

    def adjust(self, words: list[str]) -> Outcome:
        """Run the hook of a CDI specification as a runtime does, in the container's mount namespace."""
        inside = ("nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--wd=/", "--")
        command = self.host.command(*inside, self.hook, *words)
        return self.run(command, self.state(), ENVIRONMENT, warns=True)

    def run(
        self, command: list[str], stdin: bytes, env: dict[str, str], timeout: float = 30, *, warns: bool = False
    ) -> Outcome:
        """Run a command that ends in the hook. warns: whether it may say what the container does without."""
        done = subprocess.run(command, input=stdin, capture_output=True, env=env, check=False, timeout=timeout)
        stderr = done.stderr.decode()
        if warns:
            stderr = "".join(line for line in stderr.splitlines(keepends=True) if not line.startswith(WARNING))
        return Outcome.of(done.returncode, done.stdout.decode(), stderr)

    def _join_cgroup(self) -> None:
        tree = self.host.path("/sys/fs/cgroup")
        directory = (
            (tree / "devices" if (tree / "devices").is_dir() else tree)
            / self.cgroup.strip("/")
            / (self.cgroup_name or self.id)
        )
        directory.mkdir(parents=True)
        (directory / "cgroup.procs").write_text(str(self.pid))

    def _write_bundle(self) -> None:
        config = {
            "ociVersion": "1.0.2",
            "process": {"args": ["/bin/sh"], "env": list(self.env), "cwd": "/"},
            "root": {"path": self.rootfs.name},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": "mount"}]},
        }
        (self.bundle / "config.json").write_text(json.dumps(config))
