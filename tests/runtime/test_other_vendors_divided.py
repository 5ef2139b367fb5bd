"""AMD GPUs whose partition mode is changed while a container holds them: what is held stays held."""

from __future__ import annotations

import json

import pytest

from tests.runtime.fixtures import oci_gpu
from tests.runtime.simulated import SimulatedHost

SLEEP = ("/bin/sleep", "60")
ALONE = "OCI_GPU_EXCLUSIVE=1"


def divide(directory, partitions: int) -> SimulatedHost:
    oci_gpu("simulate", directory, "--platform", "amd", "--partitions", str(partitions))
    return SimulatedHost(directory)


@pytest.mark.parametrize(("before", "after", "name"), [(1, 2, "0"), (2, 1, "1"), (1, 8, "0"), (8, 1, "5")])
def test_a_gpu_that_is_held_is_not_given_after_a_change_of_mode(runc_v2, make_bundle, machine, before, after, name):
    directory = machine.work / f"divided-{before}-{after}"
    host = divide(directory, before)
    held = make_bundle(name="held", args=SLEEP, env=(f"AMD_VISIBLE_DEVICES={name}", ALONE), config=host.config)
    with runc_v2.started(held) as one:
        divide(directory, after)
        for number, asked in enumerate(("OCI_GPU_COUNT=1", "AMD_VISIBLE_DEVICES=0")):
            other = make_bundle(name=f"other{number}", args=("/bin/true",), env=(asked, ALONE), config=host.config)
            done = runc_v2.run(other)
            assert done.status, asked
            assert f"'{one.id}'" in done.complaint()
        devices = json.loads(oci_gpu("--config", host.config, "leases", "--all", "--json"))["devices"]
        assert [device["holders"] for device in devices] == [[one.id]] * after
    free = make_bundle(name="free", args=("/bin/true",), env=("OCI_GPU_COUNT=1", ALONE), config=host.config)
    assert runc_v2.run(free).status == 0
