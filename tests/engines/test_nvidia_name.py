"""Docker's runtime by NVIDIA's name, as most compose files have it."""

from __future__ import annotations

import signal
import time

import pytest

from tests.runtime.test_devices import assert_reaches, reach


@pytest.fixture
def by_nvidias_name(docker):
    """Docker once its runtime has the second name; without it again afterwards. dockerd is told by a signal."""
    file = docker.engines.path("/etc/docker/daemon.json")
    before = file.read_bytes()

    def reload(wanted: bool) -> None:
        docker.daemon.send_signal(signal.SIGHUP)
        give_up = time.monotonic() + 20
        while ('"nvidia"' in docker("info", "--format", "{{json .Runtimes}}").stdout) is not wanted:
            assert time.monotonic() < give_up
            time.sleep(0.1)

    docker.engines.oci_gpu("install", "docker", "--also-as", "nvidia", "--directory", docker.engines.libexec)
    reload(wanted=True)
    yield docker
    file.write_bytes(before)
    reload(wanted=False)


def test_runtime_nvidia(by_nvidias_name, simulated):
    options = ("--runtime", "nvidia", "-e", "NVIDIA_VISIBLE_DEVICES=1")
    seen = by_nvidias_name.run(*options, probe=tuple(reach(simulated))).seen()
    assert_reaches(seen, simulated, (1,))
