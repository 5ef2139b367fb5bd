"""Containers that use more of a GPU than their part: `oci-gpu watch` tells of them, and takes the GPU if it is to."""

from __future__ import annotations

import json
import time

import pytest

from tests.runtime import test_watch as watches
from tests.runtime.sharing import SHARE, daemons, shares
from tests.runtime.test_sharing import oci_gpu
from tests.runtime.test_verify_repair import access
from tests.runtime.test_watch import watching

pytestmark = pytest.mark.root
PART = 8 << 30
UNDER, OVER = 8000, 9000  # MiB


@pytest.fixture
def host(sharing_host):
    return sharing_host


@pytest.fixture
def running(runtime, make_bundle, host):
    """A container that has 8 GiB of GPU 0."""
    bundle = make_bundle(config=host.config, env=SHARE, args=("/bin/sleep", "100"))
    with runtime.started(bundle) as container:
        yield container


def use(host, container, mib: int) -> None:
    line = f"gpu 0 process {container.pid} compute {mib} 0 0\n"
    whole = host.directory / "usage.new"
    whole.write_text(line)
    whole.rename(host.directory / "usage")


def allow(host, what: str) -> None:
    with open(host.config, "a") as file:
        file.write(f'\n[sharing]\non-overuse = "{what}"\n')


def leases(runtime, host) -> list[dict]:
    found: list[dict] = oci_gpu(runtime, host, "leases", "--json")
    return found


def test_it_is_told_once_and_left_alone(runtime, host, running):
    allow(host, "report")
    use(host, running, UNDER)
    with watching(runtime, host) as lines:
        time.sleep(2.5)
        assert lines.of("uses more than its part") == []
        use(host, running, OVER)
        told = lines.wait_for("uses more than its part")
        assert (told["container"], told["used"], told["given"]) == (running.id, OVER << 20, PART)
        assert told["gpu"] == host.gpus()[0].uuid
        time.sleep(2.5)
        assert [line["event"] for line in lines.all] == ["watching", "uses more than its part"]
    assert access(running)["nvidia0"] == "ENXIO"


def test_the_gpu_is_taken_with_all_that_held_the_container_to_its_part(runtime, host, running):
    allow(host, "detach")
    use(host, running, OVER)
    assert [line["event"] for line in watches.once(runtime, host)] == ["uses more than its part"], "it is told first"
    with watching(runtime, host) as lines:
        assert lines.wait_for("detached")["ended"] == []
        assert access(running)["nvidia0"] == "ENOENT"
        assert leases(runtime, host) == []
        assert (daemons(host), shares(host)) == ([], [])
        time.sleep(2.5)
        assert lines.of("not detached") == []
        assert len(lines.of("detached")) == len(lines.of("uses more than its part")) == 1
    (document,) = oci_gpu(runtime, host, "verify", running.id, "--json")
    assert document["findings"] == []


def test_who_uses_less_again_by_the_next_look_keeps_the_gpu(runtime, host, running, monkeypatch):
    allow(host, "detach")
    use(host, running, OVER)
    command = watches.command
    monkeypatch.setattr(watches, "command", lambda *words: command(*words[:-1], "3"))  # seconds from look to look
    with watching(runtime, host) as lines:
        lines.wait_for("uses more than its part")
        use(host, running, UNDER)
        time.sleep(4)
        use(host, running, OVER)
        lines.wait_for("uses more than its part", count=2)
        assert lines.of("detached") == []
        use(host, running, UNDER)
    assert access(running)["nvidia0"] == "ENXIO"


def test_a_driver_that_does_not_say_is_told_once(runtime, host, running):
    for path in host.libraries("libnvidia-ml.so*"):
        path.write_bytes(path.read_bytes()[:100])
    with watching(runtime, host) as lines:
        assert "NVML" in json.dumps(lines.wait_for("use of GPUs not known"))
        time.sleep(2.5)
        assert len(lines.of("use of GPUs not known")) == 1
        assert lines.of("uses more than its part") == []
