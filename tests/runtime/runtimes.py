"""Real OCI runtimes, each on a host with one cgroup layout, and containers run by them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.runtime.host import Host

TIMEOUT = 60
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Result:
    """How a command ended and what it wrote."""

    status: int
    stdout: str
    stderr: str

    def seen(self) -> dict:
        """Return the probe's answers by what it was asked. Fails the test when the container did not end well."""
        assert self.status == 0, f"exit {self.status}\nstdout: {self.stdout}\nstderr: {self.stderr}"
        answers = [json.loads(line) for line in self.stdout.splitlines()]
        return {answer["do"]: answer["value"] for answer in answers}

    def complaint(self) -> str:
        """Return the hook's one line as the runtime shows it. Fails the test when the container started."""
        assert self.status != 0, f"the container started\nstdout: {self.stdout}\nstderr: {self.stderr}"
        marker = "oci-gpu-hook: error: "
        assert self.stderr.count(marker) == 1, self.stderr
        assert "Traceback" not in self.stderr, self.stderr
        line = self.stderr.partition(marker)[2].splitlines()[0]
        # runc quotes the line: `…, stderr: LINE\n"` or with the newline written as two characters
        return line.replace("\\n", "\n").splitlines()[0].rstrip('"')


@dataclass(frozen=True)
class Runtime:
    """One runtime's executable on one host. `state_dir` is its --root, `cgroup` the parent of its containers'."""

    name: str
    binary: str
    host: Host
    state_dir: Path
    cgroup: str

    def run(self, bundle, timeout: float = TIMEOUT) -> Result:
        """Run a container of `bundle` to its end; whatever happens, nothing of it stays."""
        name = self._register(bundle)
        try:
            result = self._call("run", "--bundle", bundle.directory, name, timeout=timeout)
        finally:
            self._remove(name)
        said = bundle.directory / "hooks-stderr"
        return replace(result, stderr=result.stderr + said.read_text()) if said.exists() else result

    @contextmanager
    def created(self, bundle):
        """Create a container and yield it before it starts; stop and delete it at the end."""
        name = self._register(bundle)
        try:
            result = self._call("create", "--bundle", bundle.directory, name)
            assert result.status == 0, result.stderr
            yield Container(self, name, bundle)
        finally:
            self._remove(name)

    @contextmanager
    def started(self, bundle):
        """Create and start a container, yield it, and stop and delete it at the end."""
        with self.created(bundle) as container:
            result = self._call("start", container.id)
            assert result.status == 0, result.stderr
            yield container

    def _register(self, bundle) -> str:
        name = f"gpu-hook-test-{os.getpid()}-{next(_numbers)}"
        bundle.config["linux"]["cgroupsPath"] = f"{self.cgroup}/{name}"
        if Path(self.binary).name == "crun":
            # runc shows what a failed hook said; crun throws it away unless it is told where to write it.
            annotations = bundle.config.setdefault("annotations", {})
            annotations["run.oci.hooks.stderr"] = str(bundle.directory / "hooks-stderr")
        bundle.write()
        return name

    def _remove(self, name: str) -> None:
        if (self.state_dir / name).exists():
            self._call("delete", "--force", name)
        self.host.remove_cgroups(name)

    def _call(self, *arguments: object, timeout: float = TIMEOUT) -> Result:
        # Files, not pipes: a created container holds its stdout open for as long as it lives.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            command = self.host.command(self.binary, "--root", self.state_dir, *arguments)
            status = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False, timeout=timeout
            ).returncode
            out.seek(0)
            err.seek(0)
            return Result(status, out.read(), err.read())


@dataclass(frozen=True)
class Container:
    """A running container."""

    runtime: Runtime
    id: str
    bundle: object

    @property
    def pid(self) -> int:
        return self.state()["pid"]

    def state(self) -> dict:
        result = self.runtime._call("state", self.id)
        assert result.status == 0, result.stderr
        return json.loads(result.stdout)

    def exec(self, *arguments: str) -> Result:
        """Run one more process in the container, under the same device rules."""
        return self.runtime._call("exec", self.id, *arguments)

    def path(self, path: str) -> Path:
        """Return a path by which this process sees `path` of the container."""
        return Path(f"/proc/{self.pid}/root{path}")
