"""`docker update` and `podman update`: the GPUs stay, by the hook alone and through the runtime."""

from __future__ import annotations

import pytest

from tests.engines.test_docker import RUNTIME
from tests.runtime.test_devices import assert_reaches, reach

LIMIT = ("--memory=200m", "--memory-swap=400m", "--cpu-shares=512")


@pytest.mark.parametrize(
    "asked", [("--gpus", "1"), (*RUNTIME, "-e", "NVIDIA_VISIBLE_DEVICES=0")], ids=["hook", "runtime"]
)
def test_docker_update(docker, simulated, asked):
    container = docker.detached(*asked)
    for _ in range(2):
        docker("update", *LIMIT, container)
        assert_reaches(docker.exec(container, *reach(simulated)), simulated, (0,))
    name = docker("inspect", "--format", "{{.Name}}", container).stdout.strip("/\n")
    for word in (container[:12], name):
        said = docker.engines.oci_gpu("verify", word)
        assert said == f"{name} (docker {container[:12]}): has what it was given\n"


def test_podman_update(podman, simulated):
    container = podman.detached("-e", "NVIDIA_VISIBLE_DEVICES=0")
    for _ in range(2):
        podman("update", "--cpu-shares=512", container)
        if podman.sends_devices():
            assert podman.exec(container, "open=/dev/nvidia0")["open=/dev/nvidia0"] == "EPERM"
            found = podman.engines.run(*podman.engines.command("verify", container[:12]), check=False)
            assert found.returncode == 1
            assert "the device cgroup refuses /dev/nvidia0" in found.stdout
            podman.engines.oci_gpu("repair", container[:12])
        seen = podman.exec(container, *reach(simulated, user_namespace=True))
        assert_reaches(seen, simulated, (0,), own_nodes=False)
