"""`update` with a device list of the engine's own, as of Podman 5 and 6: through oci-gpu-runtime a GPU stays."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.runtime.test_devices import assert_reaches, reach

PODMANS = {"devices": [{"allow": False, "access": "rwm"}]}


@pytest.fixture
def update(front, directory):
    """Hand a container new resources, by a file or on stdin, with every option that Podman gives before the command."""
    path = directory / "resources.json"

    def run(container, how, resources=PODMANS):
        path.write_text(json.dumps(resources))
        line = f"{front.binary} --root {front.state_dir} --log {directory}/log --log-format json update"
        words = {"file": f"--resources={path} {container.id}", "stdin": f"--resources - {container.id} < {path}"}[how]
        done = front.host.call("sh", "-c", f"{line} {words}", check=False)
        assert done.returncode == 0, done.stderr

    return run


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_what_the_runtime_has_granted_stays(front, plain_bundle, simulated, update, how):
    with front.started(plain_bundle(args=("/bin/sleep", "60"), gpus="0")) as container:
        for _ in range(2):
            update(container, how)
            assert_reaches(container.exec("/probe", *reach(simulated)).seen(), simulated, (0,))


def test_what_the_hook_alone_has_granted_stays(front, make_bundle, simulated, update):
    bundle = make_bundle(args=("/bin/sleep", "60"), gpus="1")
    with front.started(bundle) as container:
        update(container, "file")
        assert_reaches(container.exec("/probe", *reach(simulated)).seen(), simulated, (1,))


def test_a_container_without_gpus_has_none_afterwards(front, plain_bundle, simulated, update):
    with front.started(plain_bundle(args=("/bin/sleep", "60"))) as container:
        update(container, "file")
        seen = container.exec("/probe", *reach(simulated)).seen()
        assert {seen[f"open=/dev/mine{gpu.minor}"] for gpu in simulated.gpus()} == {"EPERM"}


def test_what_the_hook_alone_has_granted_is_given_back_by_repair(runtime, make_bundle, simulated, directory):
    """Without oci-gpu-runtime crun takes the GPU away, which `verify` sees and `repair` mends."""
    path = directory / "resources.json"
    path.write_text(json.dumps(PODMANS))
    oci_gpu = (Path(sys.executable).with_name("oci-gpu"), "--config", simulated.config)
    with runtime.started(make_bundle(args=("/bin/sleep", "60"), gpus="0")) as container:
        assert runtime._call("update", "--resources", path, container.id).status == 0
        is_lost = "crun" in runtime.name
        assert runtime.host.call(*oci_gpu, "verify", container.id, check=False).returncode == is_lost
        runtime.host.call(*oci_gpu, "repair", container.id)
        assert runtime.host.call(*oci_gpu, "verify", container.id).returncode == 0
        assert_reaches(container.exec("/probe", *reach(simulated)).seen(), simulated, (0,))
