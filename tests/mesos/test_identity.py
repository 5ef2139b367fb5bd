"""Whoever launches a nested container chooses its id: it may be another task's, and takes nothing from that."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.mesos.conftest import leases

ONE = {"NVIDIA_VISIBLE_DEVICES": "all", "OCI_GPU_COUNT": "1", "OCI_GPU_EXCLUSIVE": "1", "OCI_GPU_WAIT": "0"}
SLEEPS = {"shell": True, "value": "echo ready; sleep 60"}


@pytest.mark.parametrize("victims", ["topmost", "nested"])
def test_a_nested_launch_that_fails_takes_nothing_of_its_namesake(mesos, simulated, victims):
    """It used to drop the other's exclusive lease, and to write over the other's bundle."""
    name = str(uuid.uuid4())
    task = {"id": name, "image": mesos.image(environment=ONE), "environment": ONE, "command": SLEEPS}
    if victims == "topmost":
        mesos.start(**task, kind="custom").wait_for("ready")
        held = name
    else:
        executor = {"shell": True, "value": "sleep 60"}
        group = mesos.start(kind="custom", image="", command=executor, nested=[task])
        held = f"{group.id}.{name}"
        wait_for(lambda: held in leases(simulated) or name in leases(simulated))
    before = leases(simulated)
    (gpu,) = before[held]
    bundles = kept_bundles(simulated)
    nine = {**ONE, "OCI_GPU_COUNT": "9"}
    fails = {"id": name, "image": mesos.image(), "environment": nine, "command": SLEEPS}
    attack = mesos.start(kind="custom", image="", command={"shell": True, "value": "sleep 60"}, nested=[fails])
    assert "9 GPUs" in attack.end()[0].complaint()
    assert leases(simulated) == before
    assert bundles.items() <= kept_bundles(simulated).items()
    done = mesos.host.call(
        Path(sys.executable).with_name("oci-gpu"), "--config", simulated.config, "verify", name, check=False
    )
    assert re.fullmatch(rf"(.+ \(mesos {held}\)|{held} \(mesos\)): has what it was given\n", done.stdout), done
    other = mesos.run("list=/dev", environment=ONE)
    assert other.status == 0, other.stderr
    asks_two = mesos.run("list=/dev", environment={**ONE, "OCI_GPU_COUNT": "2"})
    assert "2 GPUs" in asks_two.complaint()
    assert leases(simulated)[held] == [gpu]


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kept_bundles(simulated) -> dict[str, dict]:
    directory = simulated.state_dir / "mesos"
    return {name: json.loads((directory / name / "config.json").read_text()) for name in os.listdir(directory)}
