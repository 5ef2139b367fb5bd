"""Tasks that ask for a part of a GPU by their environment, beside those to which Mesos accounts whole ones."""

from __future__ import annotations

import json

import pytest

from tests.mesos.test_accounting import SLEEP, has, leases
from tests.mesos.test_unified import NO_IMAGE_ENVIRONMENT, REACH
from tests.runtime.fixtures import oci_gpu

PART = {"OCI_GPU_MEMORY_LIMIT": "40GiB", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}


@pytest.fixture
def reserved(simulated):
    """The agent's host reserves parts of GPUs and enforces none: it has no systemd to start MPS."""
    text = simulated.config.read_text()
    simulated.config.write_text(f'{text}\n[sharing]\nenforce = "none"\n')
    yield
    simulated.config.write_text(text)


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
def test_two_tasks_share_a_gpu_and_a_third_gets_the_other(mesos, simulated, reserved, pid_namespace):
    options = {"image": mesos.image("debian", NO_IMAGE_ENVIRONMENT), "pid_namespace": pid_namespace}
    small = PART | {"OCI_GPU_MEMORY_LIMIT": "30GiB"}
    tasks = []
    for wish, expected in ((PART, {"nvidia0"}), (small, {"nvidia0"}), (PART, {"nvidia1"})):
        tasks.append(mesos.start(command=SLEEP, environment=wish, **options))
        assert has(tasks[-1]) == expected
    held = leases(simulated)
    assert [held[task.id][1] for task in tasks] == [False, False, False]
    listed = json.loads(oci_gpu("--config", simulated.config, "leases", "--json"))
    sizes = {lease["container"]: [part["memory"] >> 30 for part in lease["shares"].values()] for lease in listed}
    assert [sizes[task.id] for task in tasks] == [[40], [30], [40]]
    whole = mesos.run(*REACH, gpus=1, environment={"OCI_GPU_WAIT": "0"}, **options)
    assert "0 of 2 available" in whole.complaint(), "what Mesos accounts is whole, and nobody else's"
    for task in tasks:
        task.kill()


def test_a_part_of_what_mesos_accounts_is_refused(mesos):
    refused = mesos.run(*REACH, gpus=1, environment=PART)
    assert "a part of a GPU: Mesos gave the task gpus:1, which are whole GPUs; give the task no `gpus`" in (
        refused.complaint()
    )


def test_without_systemd_nothing_can_hold_a_task_to_its_part(mesos):
    refused = mesos.run(*REACH, environment=PART, image=mesos.image("debian", NO_IMAGE_ENVIRONMENT))
    assert "would run in the container's namespaces, since this host has no systemd to start it" in refused.complaint()
