"""A device cgroup that hides GPUs from whoever looks: those are there, and nobody is told that the driver lost them.

The hook's command before the task's is started in the container's device cgroup, in which no GPU can be opened yet, or
only those that others of its task group have. NVML does not count what it may not open.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path

import pytest

from tests.mesos.conftest import leases
from tests.mesos.test_unified import REACH, gpus
from tests.runtime.fixtures import oci_gpu

NOW = {"OCI_GPU_WAIT": "0"}
SLEEPS = {"shell": True, "value": f"/probe {' '.join(REACH)}; echo ready; sleep 600"}


@pytest.fixture
def fresh(mesos, simulated, real_launcher):
    """A host of which no inventory is stored, and the launcher directory that goes with it: (host, launcher)."""
    host = simulated.copy(mesos.directory / "fresh")
    launcher = mesos.directory / "front"
    oci_gpu("--config", host.config, "install", "mesos", "--launcher-dir", real_launcher, "--output", launcher)
    yield host, launcher
    assert [gpu["fault"] for gpu in info(host)["gpus"]] == [None, None]


def info(host) -> dict:
    return json.loads(oci_gpu("--config", host.config, "info", "--json"))


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
@pytest.mark.parametrize("kind", ["command", "custom"])
def test_first_container_of_a_host_is_chosen_for_by_what_nvml_tells(mesos, fresh, kind, pid_namespace):
    host, launcher = fresh
    options = {"kind": kind, "pid_namespace": pid_namespace, "launcher": launcher}
    asks = {"NVIDIA_VISIBLE_DEVICES": "all", "OCI_GPU_COUNT": "1", "OCI_GPU_MEMORY": "1GiB"}
    ended = mesos.run(*REACH, environment=asks, **options)
    assert len(gpus(ended.seen())) == 1
    assert json.loads((host.state_dir / "inventory.json").read_text())["inventory"]["detailed"]
    assert "warning" not in ended.stderr


def test_task_of_a_group_does_not_take_the_gpus_of_others_for_lost(mesos, fresh):
    host, launcher = fresh
    first = {"id": str(uuid.uuid4()), "image": mesos.image(), "environment": {"NVIDIA_VISIBLE_DEVICES": "0"}}
    asks = {"OCI_GPU_COUNT": "1", "OCI_GPU_EXCLUSIVE": "true", "OCI_GPU_MEMORY": "1GiB", **NOW}
    second = {"id": str(uuid.uuid4()), "image": mesos.image(), "environment": asks}
    both = [{**each, "command": SLEEPS} for each in (first, second)]
    before = [{"shell": True, "value": f"until grep -q ready {mesos.directory}/agent/slaves/*/*/*/*/*/*/*/containers/"
               f"{first['id']}/stdout; do sleep 0.1; done"}]  # fmt: skip
    both[1]["pre_exec"] = before
    executor = {"kind": "custom", "image": "", "command": {"shell": True, "value": "sleep 600"}, "group": True}
    group = mesos.start(**executor, nested=both, launcher=launcher)
    group.wait_for("ready", second["id"])
    one, other = host.gpus()
    assert leases(host) == {f"{group.id}.{first['id']}": [one.uuid], f"{group.id}.{second['id']}": [other.uuid]}
    group.kill()


def test_whoever_may_not_open_a_gpu_is_told_so_and_stores_nothing_of_it(mesos, fresh):
    host, _ = fresh
    cgroup = "/sys/fs/cgroup/devices/mesos/hides-gpus"
    rules = (
        "for rule in 'c *:* m' 'c 1:* rwm' 'c 5:* rwm' 'c 195:255 rw' 'c 195:0 rw'; do echo $rule > devices.allow; done"
    )
    command = (
        f"mkdir -p {cgroup} && cd {cgroup} && echo a > devices.deny && {rules} && echo $$ > cgroup.procs && exec $0 $@"
    )
    program = Path(sys.executable).with_name("oci-gpu")
    try:
        shown = mesos.host.call("sh", "-c", command, program, "--config", host.config, "info", "--json")
    finally:
        mesos.host.path(cgroup).rmdir()
    said = json.loads(shown.stdout)
    assert [gpu["fault"] for gpu in said["gpus"]] == [None, None]
    (warning,) = [text for text in said["warnings"] if "NVML" in text]
    assert f"this process may not open '{host.dev}/nvidia1'" in warning
