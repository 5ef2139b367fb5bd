"""A GPU that the driver has lost, under real runtimes: passed over, refused by name, and seen by those that hold it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.simulated import SimulatedHost

pytestmark = pytest.mark.root
NOTHING = b"\xff" * 64


@pytest.fixture
def host(directory):
    """A host of the test's own with two GPUs, one of which it may lose."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))


def lose(host, index):
    path = host.directory / "sys/bus/pci/devices" / host.gpus()[index].bus_id / "config"
    with open(path, "r+b") as file:
        file.write(NOTHING)


def planned(runtime, bundle, host):
    bundle.write()
    path = Path(sys.executable).with_name("oci-gpu")
    done = runtime.host.call(path, "--config", host.config, "plan", bundle.directory, "--json", check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_count_is_given_one_that_works(runtime, make_bundle, host):
    env = ("OCI_GPU_COUNT=1", "OCI_GPU_EXCLUSIVE=1", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
    bundle = make_bundle("open=/dev/nvidia0", "open=/dev/nvidia1", env=env, config=host.config)
    assert planned(runtime, bundle, host)["gpus"][0]["index"] == 0
    lose(host, 0)
    made = planned(runtime, bundle, host)
    assert [gpu["uuid"] for gpu in made["gpus"]] == [host.gpus()[1].uuid]
    (warning,) = [text for text in made["warnings"] if "passed over" in text]
    assert host.gpus()[0].uuid in warning
    result = runtime.run(bundle)
    assert result.seen() == {"open=/dev/nvidia0": "ENOENT", "open=/dev/nvidia1": "ENXIO"}


def test_its_name_is_refused_in_one_line(runtime, make_bundle, host):
    lose(host, 1)
    result = runtime.run(make_bundle("true", gpus=host.gpus()[1].uuid, config=host.config))
    assert result.status != 0
    assert "the driver has lost it: it does not answer on the PCI bus" in result.complaint()


def test_a_container_that_holds_it_is_told(runtime, make_bundle, host):
    def command(*arguments):
        path = Path(sys.executable).with_name("oci-gpu")
        return runtime.host.call(path, "--config", host.config, *arguments, check=False)

    with runtime.started(make_bundle(args=("/bin/sleep", "100"), gpus="all", config=host.config)) as container:
        assert command("verify", container.id).returncode == 0
        lose(host, 0)
        done = command("verify", container.id, "--json")
        assert done.returncode == 1
        (document,) = json.loads(done.stdout)
        (finding,) = document["findings"]
        assert (finding["kind"], finding["repairable"]) == ("gpu", False)
        assert host.gpus()[0].uuid in finding["what"]
        repaired = command("repair", container.id)
        assert repaired.returncode == 1
        assert "the driver has lost it" in repaired.stderr
