"""Docker's and containerd's door with the resident: no interpreter prepares the bundle, or does the hook's work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from oci_gpu_hook.admin.install import front_file
from tests.runtime import residents
from tests.runtime.counted import copied
from tests.runtime.residents import traced
from tests.runtime.test_devices import assert_reaches, reach
from tests.runtime.test_oci_runtime import leases


class Door:
    """oci-gpu-runtime of an installation of this test's own; `pythons` tells how often a front has started Python."""

    def __init__(self, runtime, directory: Path, front_path: str) -> None:
        place = copied(front_path, directory / "libexec")
        hook = place / "oci-gpu-hook"
        self._python = residents.Interpreter(hook, directory)
        address = directory / "resident" / "socket"
        self.listening = residents.listen(address)
        before = tuple(runtime.host.command())
        self.running = residents.Resident(self.listening, hook, directory / "said", before=before)
        self.running.wait_until_ready()
        for role, program in (("hook", ""), ("runtime", runtime.binary)):
            path = str(place / f"oci-gpu-{role}")
            assert front_file.write_front(path, role, str(self._python.path), f"{path}.pyc", program, str(address))
        self.runtime = replace(runtime, binary=str(place / "oci-gpu-runtime"))

    @property
    def pythons(self) -> int:
        return self._python.starts

    def close(self) -> None:
        self.running.end()
        self.listening.close()


@pytest.fixture
def door(runtime, directory, configured, front_path):
    opened = Door(runtime, directory, front_path)
    yield opened
    opened.close()


def test_a_container_starts_and_ends_without_python(door, plain_bundle, simulated):
    bundle = plain_bundle(*reach(simulated), "dlopen=libcuda.so.1", gpus="0")
    for _ in range(3):
        seen = door.runtime.run(bundle).seen()
        assert_reaches(seen, simulated, (0,))
        assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")
        assert leases(simulated) == []
    assert door.pythons == 0
    assert list((simulated.state_dir / "standby").glob("*")) == []


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize(("parent", "looks"), [("the runtime", 1), ("a shell", 2)])
def test_a_hook_goes_by_what_its_runtime_was_granted(door, plain_bundle, simulated, directory, parent, looks):
    """A worker that has granted looks at no inventory again for the hook that the runtime starts, and only for that."""
    if parent == "a shell":
        hook = Path(door.runtime.binary).with_name("oci-gpu-hook")
        hook.rename(hook.with_name("moved"))
        hook.write_text(f'#!/bin/sh\n{hook.with_name("moved")} "$@"\nexit $?\n')
        hook.chmod(0o755)
    file = directory / "opened"
    tracers = traced(door.running, "-A", "-o", str(file), "-e", "trace=openat")
    seen = door.runtime.run(plain_bundle(*reach(simulated), gpus="0")).seen()
    for tracer in tracers:
        tracer.terminate()
        tracer.wait()
    assert_reaches(seen, simulated, (0,))
    assert door.pythons == 0
    assert file.read_text().count("inventory.json") == looks


def test_a_bundle_may_be_named_from_the_working_directory(door, plain_bundle, simulated):
    bundle = plain_bundle(gpus="0", args=("/bin/true",))
    name = door.runtime._register(bundle)
    script = f'cd {bundle.directory.parent} && exec "$@"'
    command = [door.runtime.binary, "--root", door.runtime.state_dir, "run", "--bundle", bundle.directory.name, name]
    try:
        door.runtime.host.call("sh", "-c", script, "sh", *command)
    finally:
        door.runtime._remove(name)
    assert "io.oci-gpu-hook" in (bundle.directory / "config.json").read_text()
    assert door.pythons == 0


def test_a_lease_is_that_of_the_runtime_and_then_the_containers(door, plain_bundle, simulated):
    with door.runtime.created(plain_bundle(gpus="0", args=("/bin/sleep", "60"))) as container:
        (lease,) = leases(simulated)
        assert lease["pid"] == container.pid
    assert leases(simulated) == []
    assert door.pythons == 0


def test_a_refusal_leaves_the_bundle_as_it_was(door, plain_bundle, simulated):
    bundle = plain_bundle(gpus="7", args=("/bin/true",))
    done = door.runtime.run(bundle)
    assert done.status == 1
    assert done.stderr.startswith("oci-gpu-runtime: error: "), done
    assert json.loads((bundle.directory / "config.json").read_text()) == bundle.config
    assert leases(simulated) == []
    assert door.pythons == 0


def test_without_the_resident_python_does_it_all(door, plain_bundle, simulated):
    pids = [door.running.pid, *door.running.workers()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        seen = door.runtime.run(plain_bundle(*reach(simulated), gpus="0")).seen()
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert_reaches(seen, simulated, (0,))
    assert door.pythons == 1  # create; the process that it leaves does the hook's work
    time.sleep(0.1)
    assert leases(simulated) == []


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("point", ["flock:1", "renameat:1"])
def test_for_a_runtime_that_was_killed_nothing_is_written(door, plain_bundle, simulated, point):
    """The worker is held up before the lease or while it writes that; meanwhile the engine kills the runtime."""
    bundle = plain_bundle(gpus="0", args=("/bin/true",))
    name = door.runtime._register(bundle)
    before = (bundle.directory / "config.json").read_bytes()
    call, _, number = point.partition(":")
    tracers = traced(door.running, "-e", f"trace={call}", "-e", f"inject={call}:delay_enter=1500000:when={number}")
    command = [door.runtime.binary, "--root", door.runtime.state_dir, "create", "--bundle", bundle.directory, name]
    runtime = subprocess.Popen(door.runtime.host.command(*command), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(0.7)
    runtime.kill()
    assert runtime.stderr
    said = runtime.stderr.read().decode()
    assert runtime.wait() == -signal.SIGKILL
    runtime.stderr.close()
    for tracer in tracers:
        tracer.kill()
        tracer.wait()
    assert said.startswith("oci-gpu-runtime: error: "), said
    assert (bundle.directory / "config.json").read_bytes() == before
    assert leases(simulated) == []
    assert door.pythons == 0
