"""Where operators find why a container did not start, though crun shows nobody what a hook says: the host's journal."""

from __future__ import annotations

import socket

import pytest

from tests.engines.test_docker import RUNTIME


@pytest.fixture
def journal(engines):
    """What listens where journald does, on the engines' machine; returns the fields of what has come."""
    place = engines.path("/run/systemd/journal/socket")
    place.parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(place))
    listener.settimeout(10)

    def fields() -> dict[str, str]:
        return dict(line.split("=", 1) for line in listener.recv(1 << 20).decode().splitlines())

    yield fields
    listener.close()
    place.unlink()


def test_podman(podman, journal):
    answer = podman.run("-e", "NVIDIA_VISIBLE_DEVICES=9", args=("/bin/true",))
    assert answer.status != 0
    seen = journal()
    assert seen["MESSAGE"].startswith("unknown device '9': this host has GPU 0")
    assert (seen["SYSLOG_IDENTIFIER"], seen["PRIORITY"], len(seen["CONTAINER_ID_FULL"])) == ("oci-gpu-hook", "3", 64)


def test_podman_of_a_user(user_podman, journal):
    user_podman.engines.path("/run/systemd/journal/socket").chmod(0o666)  # as journald has it
    assert user_podman.run("-e", "NVIDIA_VISIBLE_DEVICES=9", args=("/bin/true",)).status != 0
    assert journal()["MESSAGE"].startswith("unknown device '9'")


def test_docker_by_the_runtime(docker, journal):
    answer = docker.run(*RUNTIME, "-e", "NVIDIA_VISIBLE_DEVICES=9", args=("/bin/true",))
    assert "unknown device '9'" in answer.stderr
    seen = journal()
    assert (seen["SYSLOG_IDENTIFIER"], len(seen["CONTAINER_ID_FULL"])) == ("oci-gpu-runtime", 64)
