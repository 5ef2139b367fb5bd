"""`oci-gpu doctor --run` under a real runtime, on a simulated host in order and on one that is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.fixtures import oci_gpu
from tests.runtime.simulated import SimulatedHost

OCI_GPU = Path(sys.executable).with_name("oci-gpu")


def trial(machine, simulated):
    """Return what the trial found on a host where runc works, by runtime."""
    return {finding["what"].split(" ")[3]: finding for finding in trials(machine, simulated)}


def trials(machine, simulated):
    """Return all that the trial found."""
    runtime = next((runtime for name, runtime in machine.runtimes.items() if name.startswith("runc")), None)
    if runtime is None:
        pytest.skip("no runc works here")
    done = runtime.host.call(OCI_GPU, "--config", simulated.config, "doctor", "--run", "--json", check=False)
    return [finding for finding in json.loads(done.stdout) if finding["check"] == "trial"]


def test_a_container_gets_its_gpu(machine, simulated, hook):
    found = trial(machine, simulated)["runc"]
    assert found["severity"] == "ok", found
    assert simulated.gpus()[0].uuid in found["what"]


def test_it_says_what_the_hook_said(machine, simulated, hook):
    node = simulated.directory / "dev/nvidiactl"  # without the node of a GPU, the trial takes another GPU
    node.rename(simulated.directory / "dev/away")
    try:
        found = trial(machine, simulated)["runc"]
    finally:
        (simulated.directory / "dev/away").rename(node)
    assert found["severity"] == "error"
    assert "oci-gpu-hook: error: device node '/dev/nvidiactl': the host does not have it" in found["why"]


@pytest.mark.parametrize("platforms", ["amd", "intel", "nvidia,amd,intel"])
def test_each_vendors_gpu_is_tried(machine, hook, platforms):
    directory = machine.work / f"trial-{platforms}"
    oci_gpu("simulate", directory, "--platform", platforms)
    found = [finding for finding in trials(machine, SimulatedHost(directory)) if " under runc " in finding["what"]]
    assert {finding["severity"] for finding in found} == {"ok"}, found
    of_runc = [finding["what"] for finding in found]
    named = [f"{name}.com/gpu=0" for name in platforms.split(",") if name != "nvidia"]
    expected = [*(["GPU 0"] if "nvidia" in platforms else []), *named]
    assert len(of_runc) == len(expected)
    assert all(name in what for name, what in zip(expected, of_runc, strict=True)), of_runc


def test_a_node_that_the_hook_refuses_is_told(machine, hook):
    directory = machine.work / "trial-held"
    oci_gpu("simulate", directory, "--platform", "amd")
    (directory / "dev/kfd").unlink()
    found = trial(machine, SimulatedHost(directory))["runc"]
    assert found["severity"] == "error", found
    assert "/dev/kfd" in found["why"]


def test_nothing_is_left(machine, simulated, hook):
    before = {path.name for path in Path("/var/tmp").glob("oci-gpu-doctor-*")}
    trial(machine, simulated)
    assert {path.name for path in Path("/var/tmp").glob("oci-gpu-doctor-*")} == before
    assert subprocess.run(["pgrep", "-f", "oci-gpu-doctor-"], capture_output=True, check=False).stdout == b""


def test_what_a_running_container_lost_is_found(runtime, make_bundle, simulated, hook):
    bundle = make_bundle(args=("/bin/sleep", "60"), gpus="0")
    with runtime.started(bundle) as container:
        target = container.path("/dev/nvidia0")
        target.unlink()
        done = runtime.host.call(OCI_GPU, "--config", simulated.config, "doctor", "--json", check=False)
    found = [f for f in json.loads(done.stdout) if f["check"] == "remains" and f["severity"] == "warning"]
    assert any("/dev/nvidia0" in f["what"] and "oci-gpu repair" in f["remedy"] for f in found), found
