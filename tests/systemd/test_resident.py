"""The resident under a real systemd: socket activation, an upgrade, one that is left half-way, idleness, doctor.

One boot does all steps (resident_guest.py); each test reads what was seen. `pythons` is how often the hook's front has
started Python by then.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.distributions.machines import packages
from tests.systemd import machine as machines
from tests.systemd import root

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]
SOCKET, SERVICE = "oci-gpu-hook.socket", "oci-gpu-hook.service"


@pytest.fixture(scope="module")
def steps():
    """What was seen on the machine, by step, in order."""
    if reason := machines.missing() or root.missing():
        pytest.skip(reason)
    release = os.environ.get("OCI_GPU_RELEASE", "")
    machine = machines.Machine(root.build(packages(release), release) if release else root.build())
    try:
        config = make(str(machine.work / "host"), gpus=1).config
        machine.stage(Path(__file__).with_name("resident_guest.py"), {}, config)
        report = machine.boot()
    finally:
        machine.close()
    assert report["failure"] == "", report
    return {step["step"]: step for step in report["steps"]}


def state(step: dict, unit: str) -> str:
    return step["units"][unit]["ActiveState"]


def test_the_first_connection_starts_it(steps):
    assert (state(steps["listening"], SOCKET), state(steps["listening"], SERVICE)) == ("active", "inactive")
    assert steps["first call"]["pythons"] <= 1  # which is started where the service takes longer than 50 ms
    assert state(steps["served"], SERVICE) == "active"


def test_doctor_asks_it(steps):
    (found,) = steps["served"]["doctor"]
    assert (found["severity"], found["what"]) == ("ok", "the resident answers, and is of this version")
    (found,) = steps["socket stopped"]["doctor"]
    assert found["what"] == "the resident is installed, but nothing listens on its socket"
    assert "systemctl reset-failed" in found["remedy"]


def test_after_an_upgrade_the_new_one_serves(steps):
    old, new = (steps[name]["units"][SERVICE]["MainPID"] for name in ("served", "served by the new one"))
    assert old not in ("0", new)
    assert steps["refused after an upgrade"]["pythons"] == steps["served"]["pythons"] + 1


def test_amid_an_upgrade_it_is_not_started_so_often_that_systemd_gives_up(steps):
    amid = steps["amid an upgrade"]
    assert 1 <= len(amid["pids"]) <= 4
    assert state(amid, SOCKET) == "active"
    assert amid["units"][SERVICE]["Result"] == "success"
    assert state(steps["served after it"], SERVICE) == "active"


def test_it_ends_when_nobody_comes_and_is_started_again(steps):
    assert (state(steps["idle"], SOCKET), state(steps["idle"], SERVICE)) == ("active", "inactive")
    assert steps["idle"]["units"][SERVICE]["Result"] == "success"
    assert state(steps["served after idleness"], SERVICE) == "active"


def test_when_systemd_gives_up_every_start_is_pythons_and_nobody_notices(steps):
    """The guest sees that each call says what it says without a resident, and nothing else."""
    given_up = steps["given up"]
    assert (state(given_up, SOCKET), given_up["units"][SOCKET]["Result"]) == ("failed", "service-start-limit-hit")
    assert given_up["of_python"] == given_up["calls"] > 5
    assert given_up["seconds"] < 5 * 1.0
    (found,) = given_up["doctor"]
    assert found["what"] == "the resident is installed, but nothing listens on its socket"
    assert "systemctl reset-failed" in found["remedy"]
    assert state(steps["served after a reset"], SERVICE) == "active"


def test_it_is_uninstalled(steps):
    assert steps["uninstalled"]["pythons"] == steps["served after a reset"]["pythons"] + 1
    assert state(steps["uninstalled"], SOCKET) == "inactive"
