"""Podman with oci-gpu-runtime as its runtime, by `oci-gpu install podman --runtime`."""

from __future__ import annotations

import json

import pytest

from tests.engines.conftest import needed
from tests.engines.test_podman import ONE, assert_reaches, reach


@pytest.fixture(scope="module", params=["crun", "runc"])
def installed(request, podman_of_root):
    """Podman of root, whose runtime is oci-gpu-runtime before each; afterwards as it was."""
    needed(request.param)
    machine = podman_of_root.engines
    directory = machine.work / f"libexec-{request.param}"
    machine.oci_gpu("install", "podman", "--runtime", "--real-runtime", request.param, "--directory", directory)
    podman_of_root.runtime = "oci-gpu"
    yield podman_of_root
    machine.oci_gpu("uninstall", "podman", "--directory", directory)
    machine.oci_gpu("install", "podman", "--directory", machine.libexec)


@pytest.fixture
def podman(installed):
    """The same, without containers afterwards."""
    yield installed
    installed("rm", "-fa", "-t", "0")


def test_it_is_the_runtime_of_new_containers(podman):
    info = podman.engines.run("podman", "info", "--format", "{{.Host.OCIRuntime.Name}}").stdout
    assert info.strip() == "oci-gpu"


def test_gpus_are_given_and_stay_through_an_update(podman, simulated):
    container = podman.detached(*ONE)
    seen = podman.exec(container, *reach(simulated))
    (index,) = (gpu.index for gpu in simulated.gpus() if seen[f"open={gpu.node}"] == "ENXIO")
    for _ in range(2):
        podman("update", "--cpu-shares=512", container)
        assert_reaches(podman.exec(container, *reach(simulated)), simulated, (index,))
    (lease,) = podman.engines.leases()
    name = podman("inspect", "--format", "{{.Name}}", container).stdout.strip()
    assert (lease["engine"], lease["name"]) == ("podman", name)
    podman("stop", "-t", "0", container)
    assert podman.engines.leases() == []
    podman("start", container)
    assert len(podman.engines.leases()) == 1


def test_a_refusal_is_what_podman_shows(podman):
    answer = podman.run("-e", "NVIDIA_VISIBLE_DEVICES=9", args=("/bin/true",))
    assert answer.status != 0
    assert "unknown device '9'" in answer.stderr


def test_a_container_that_asks_for_nothing_gets_nothing(podman):
    container = podman.detached()
    path = podman("inspect", "--format", "{{.OCIConfigPath}}", container).stdout.strip()
    config = json.loads(podman.engines.path(path).read_bytes())
    assert "io.oci-gpu-hook.prepared" not in config["annotations"]
    seen = podman.exec(container, "list=/dev")
    assert not [name for name in seen["list=/dev"] if name.startswith("nvidia")]
