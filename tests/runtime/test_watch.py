"""`oci-gpu watch` puts back what running containers lose while it runs; each container is one of a real runtime."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make, upgrade
from tests.runtime.simulated import SimulatedHost
from tests.runtime.test_verify_repair import NEW_DRIVER, access, in_container, take_rights

pytestmark = pytest.mark.root
FINE = {"nvidia0": "ENXIO", "nvidiactl": "ENXIO", "mine1": "EPERM"}
PATIENCE = 30  # seconds


@pytest.fixture
def host(directory):
    """A host of the test's own, with two GPUs."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))


@pytest.fixture
def running(runtime, make_bundle, host):
    """A container that has GPU 0 and does nothing."""
    with runtime.started(make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)) as container:
        yield container


def command(runtime, host, *arguments: str) -> list[str]:
    path = Path(sys.executable).with_name("oci-gpu")
    made: list[str] = runtime.host.command(path, "--config", host.config, "watch", *arguments)
    return made


def once(runtime, host) -> list[dict[str, object]]:
    """Watch once; return what it said."""
    done = subprocess.run(command(runtime, host, "--once"), capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


class Lines:
    """What a watch says, as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.all: list[dict[str, object]] = []
        self._come = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._come:
                self.all.append(json.loads(line))
                self._come.notify()

    def of(self, event: str) -> list[dict[str, object]]:
        return [line for line in self.all if line["event"] == event]

    def wait_for(self, event: str, count: int = 1) -> dict[str, object]:
        """Return the event's line, once there are that many."""
        give_up = time.monotonic() + PATIENCE
        with self._come:
            while len(self.of(event)) < count:
                assert self._come.wait(max(give_up - time.monotonic(), 0)), (event, self.all)
            return self.of(event)[-1]


@contextmanager
def watching(runtime, host):
    """A watch that looks each second; it ends cleanly when it is asked to."""
    process = subprocess.Popen(
        command(runtime, host, "--interval", "1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = Lines(process)
    try:
        lines.wait_for("watching")
        yield lines
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        lines.wait_for("ended")
        assert process.stderr
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()


def test_a_container_that_has_all_is_left_alone(runtime, host, running):
    assert once(runtime, host) == []


def test_what_was_lost_before_is_put_back(runtime, host, running):
    take_rights(running)
    in_container(running, "rm", "/dev/nvidiactl")
    said = once(runtime, host)
    assert [(line["event"], line["container"], line["level"]) for line in said] == 2 * [
        ("put back", running.id, "info")
    ]
    assert "/dev/nvidiactl" in str(said)
    assert access(running) == FINE


def test_what_is_lost_meanwhile_is_put_back(runtime, host, running):
    with watching(runtime, host) as lines:
        for number in (1, 2):
            take_rights(running)
            assert "device cgroup refuses" in str(lines.wait_for("put back", number)["what"])
            assert access(running) == FINE
        assert lines.of("left alone for a while") == []


def test_a_container_that_loses_it_again_and_again_is_left_alone_for_a_while(runtime, host, running):
    with watching(runtime, host) as lines:
        for number in range(1, 6):
            take_rights(running)
            lines.wait_for("put back", number)
        assert lines.wait_for("left alone for a while")["seconds"] == 60
        take_rights(running)
        time.sleep(2.5)
        assert access(running)["nvidia0"] == "EPERM"
        assert len(lines.of("put back")) == 5
        assert len(lines.of("left alone for a while")) == 1


def test_one_that_starts_meanwhile_is_watched_too(runtime, host, make_bundle):
    with watching(runtime, host) as lines:
        bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)
        with runtime.started(bundle) as container:
            time.sleep(2.5)  # it is seen once with what it was given
            assert lines.of("put back") == []
            take_rights(container)
            assert lines.wait_for("put back")["container"] == container.id


def test_a_driver_that_changes_meanwhile(runtime, host, running):
    with watching(runtime, host) as lines:
        time.sleep(1.5)
        upgrade(str(host.directory), NEW_DRIVER)
        assert lines.wait_for("inventory refreshed")["driver"] == NEW_DRIVER
        assert "holds the files of driver" in str(lines.wait_for("cannot be put back")["reason"])
        time.sleep(2.5)
        assert len(lines.of("inventory refreshed")) == 1
        told = [str(line["reason"]) for line in lines.of("cannot be put back")]
        assert len(told) == len({*told}), "each is said once"


def test_what_cannot_be_done_is_said_once(runtime, host, running):
    in_container(running, "rm", "/dev/nvidiactl")
    in_container(running, "mknod", "/dev/nvidiactl", "c", "1", "3")
    with watching(runtime, host) as lines:
        assert "device node of other numbers" in str(lines.wait_for("not put back")["reason"])
        time.sleep(2.5)
        assert len(lines.of("not put back")) == 1


def test_a_gpu_that_gets_sick_meanwhile(runtime, host, running, make_bundle):
    """The container that holds it keeps it, and is repaired as ever; others do not get it."""
    bus = host.gpus()[0].bus_id.rpartition(".")[0]
    with watching(runtime, host) as lines:
        with open(host.directory / "kmsg", "a") as file:
            file.write(f"3,1,1,-;NVRM: Xid (PCI:{bus}): 79, GPU has fallen off the bus.\n")
        assert lines.wait_for("GPU marked sick")["xid"] == 79
        take_rights(running)
        lines.wait_for("put back")
        assert access(running) == FINE
        refused = runtime.run(make_bundle("true", gpus="0", config=host.config, name="named"))
        assert "it is marked sick since" in refused.complaint()
        env = ("OCI_GPU_COUNT=1", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
        counted = make_bundle("open=/dev/nvidia0", "open=/dev/nvidia1", env=env, config=host.config, name="counted")
        assert runtime.run(counted).seen() == {"open=/dev/nvidia0": "ENOENT", "open=/dev/nvidia1": "ENXIO"}


@pytest.mark.parametrize("what", ["report", "detach"])
def test_a_hold_that_is_too_long(runtime, host, running, what):
    with open(host.config, "a") as file:
        file.write(f'\n[allocation]\nlongest-hold = "1s"\non-overrun = "{what}"\n')
    with watching(runtime, host) as lines:
        assert lines.wait_for("holds GPUs for too long")["gpus"] == [host.gpus()[0].uuid]
        if what == "detach":
            assert lines.wait_for("detached")["ended"] == []
            assert access(running)["nvidia0"] == "ENOENT"
        else:
            time.sleep(2.5)
            assert access(running) == FINE
            path = Path(sys.executable).with_name("oci-gpu")
            shown = runtime.host.call(path, "--config", host.config, "leases", "--json").stdout
            assert [lease["overdue"] for lease in json.loads(shown)] == [True]
        assert len(lines.of("holds GPUs for too long")) == 1
        assert lines.of("not detached") == []
