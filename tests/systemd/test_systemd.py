"""GPUs that stay, on a real systemd: what it was told of it takes from nobody, what it was not told of it takes away.

One boot does all steps (guest.py); each test reads what was seen. A granted node that the device cgroup lets through
fails with ENXIO, because no driver is behind it; one that it refuses with EPERM.
"""

from __future__ import annotations

import errno
import json
import os

import pytest

from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.apply.systemd import private_bus
from tests.distributions.machines import packages
from tests.systemd import machine as machines
from tests.systemd import root
from tests.systemd.containers import prepare

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]
GRANTED = str(errno.ENXIO)
REFUSED = str(errno.EPERM)


@pytest.fixture(scope="session")
def booted():
    """The machine after all of the guest's work, and the report of it."""
    if reason := machines.missing() or root.missing():
        pytest.skip(reason)
    release = os.environ.get("OCI_GPU_RELEASE", "")  # by `make engines`, in the root directories of that
    machine = machines.Machine(root.build(packages(release), release) if release else root.build())
    try:
        prepare(machine, make(str(machine.work / "host"), gpus=2).config)
        machine.report = machine.boot()
        yield machine
    finally:
        machine.close()


@pytest.fixture
def steps(booted):
    """The steps of one container, by name, in order."""

    def of(container: str) -> dict[str, dict]:
        assert booted.report["failure"] == "", booted.report["failure"]
        return {step["step"]: step for step in booted.report["steps"] if step["container"] == container}

    return of


def seen(steps: dict[str, dict]) -> dict[str, str]:
    return {name: step["granted"] for name, step in steps.items() if "granted" in step}


def findings(step: dict) -> list[str]:
    (document,) = json.loads(step["verify"]["stdout"])
    assert step["verify"]["status"] == (1 if document["findings"] else 0)
    return [finding["kind"] for finding in document["findings"]]


def test_what_systemd_was_not_told_of_it_takes_away(steps):
    seen_ = seen(steps("lost"))
    assert seen_["started"] == GRANTED
    assert seen_["drop-in removed"] == GRANTED, "systemd does not look before it reloads"
    assert seen_["reloaded"] == REFUSED, "the trouble; if this fails, systemd has mended it and the drop-in may go"


def test_before_its_first_reload_systemd_knows_already(booted, steps):
    told = seen(steps("told"))
    assert [*told][:4] == ["started", "property set", "updated by runc", "device allowed to the unit"]
    assert {*told.values()} == {GRANTED}, told
    assert findings(steps("told")["device allowed to the unit"]) == []
    assert seen(steps("podman"))["property set before a reload"] == GRANTED
    assert steps("told")["deleted"]["left"] == [], "nor is anything of it left behind"


def test_a_systemd_that_does_not_answer_keeps_no_container_from_starting(booted, steps):
    untold = steps("untold")
    assert {*seen(untold).values()} == {GRANTED}
    assert private_bus.PATIENCE <= untold["started"]["seconds"] < 2 * private_bus.PATIENCE
    ((container, text),) = [each for each in booted.warnings() if each[0] != "watched"]
    assert container == "untold"
    assert text.startswith("systemd was not told of the devices of 'gpu-untold.scope': timed out; ")


def test_verify_sees_it_coming_and_sees_it_come(steps):
    lost = steps("lost")
    assert findings(lost["drop-in removed"]) == ["drop-in"]
    assert findings(lost["reloaded"]) == ["rights", "drop-in"]


def test_repair_gives_it_back_for_good(steps):
    lost = steps("lost")
    assert lost["repaired"]["repair"]["status"] == 0, lost["repaired"]["repair"]
    assert lost["repaired"]["granted"] == GRANTED
    assert lost["reloaded after repair"]["granted"] == GRANTED
    assert findings(lost["reloaded after repair"]) == []


def test_the_watch_puts_back_what_a_reload_takes(booted, steps):
    """It has an hour until it looks by itself, so it has heard systemd: also after that has executed itself again."""
    watched = steps("watched")
    lines = [json.loads(line) for line in watched["ended"]["lines"].splitlines()]
    assert seen(watched) == {
        "started": GRANTED,
        "reloaded": GRANTED,
        "reexecuted": GRANTED,
        "taken": REFUSED,  # the watch was stopped meanwhile
        "given back": GRANTED,
    }
    assert [findings(watched[step]) for step in ("reloaded", "reexecuted", "given back")] == [[], [], []], lines
    assert {line["event"] for line in lines} == {"watching", "put back", "ended"}, lines
    assert watched["ended"]["status"] == 0
    assert {line["container"] for line in lines if line["event"] == "put back"} == {"watched"}
    refused = [attempt[0] for attempt in booted.log("watched") if attempt[1] == REFUSED]
    print(f"without its GPU at {refused}", [each for each in booted.warnings() if each[0] == "watched"], lines)


def test_what_was_attached_outlasts_reloads_and_updates(booted, steps):
    attached = steps("attached")
    absent = str(errno.ENOENT)
    assert attached["attached"]["attach"]["status"] == 0, attached["attached"]["attach"]
    assert attached["detached and reloaded"]["detach"]["status"] == 0, attached["detached and reloaded"]["detach"]
    given = dict.fromkeys(("attached", "property set", "reloaded", "updated by runc", "reexecuted"), GRANTED)
    assert seen(attached) == {"started": absent, **given, "detached and reloaded": absent}
    assert findings(attached["reexecuted"]) == []
    assert attached["attached"]["drop-ins"] == [attached["started"]["unit"]]
    assert attached["detached and reloaded"]["drop-ins"] == []


@pytest.mark.parametrize("container", ["told", "untold", "kept", "podman", "free"])
def test_what_systemd_knows_of_it_takes_from_nobody(booted, steps, container):
    after = seen(steps(container))
    assert {*after.values()} == {GRANTED}, after
    attempts = booted.log(container)
    assert len(attempts) > 3 * len(after)
    assert [attempt for attempt in attempts if attempt[1] != GRANTED] == [], "not for a moment"


def test_the_steps_were_those_that_hurt(steps):
    assert [*seen(steps("kept"))] == [
        "started",
        *(f"reloaded {number}" for number in (1, 2, 3)),
        "reexecuted",
        "property set",
        "device allowed to the unit",
        "reloaded after that",
        "updated by runc",
        "reloaded after the update",
    ]
    assert findings(steps("kept")["reloaded after the update"]) == []


@pytest.mark.parametrize("container", ["told", "lost", "kept", "podman"])
def test_the_neighbour_stays_refused(booted, steps, container):
    assert steps(container)
    assert {attempt[2] for attempt in booted.log(container)} == {REFUSED}


def test_units_without_a_device_policy_get_no_drop_in(booted, steps):
    assert "gpu-free.scope" not in steps("free")["reloaded"]["drop-ins"]
    assert GRANTED in {attempt[2] for attempt in booted.log("free")}, "privileged: systemd restricts nothing"


def test_a_unit_with_an_escaped_name(steps):
    started = steps("kept")["started"]
    assert started["unit"] == r"gpu-kept\x2dname.scope"
    assert started["drop-ins"] == [started["unit"]]


def test_poststop_removes_the_drop_in(steps):
    assert steps("lost")["started"]["drop-ins"] == ["gpu-lost.scope"]
    assert steps("lost")["deleted"]["drop-ins"] == []
    (unit,) = steps("podman")["started"]["drop-ins"]
    assert unit.startswith("libpod-")
    assert steps("podman")["removed"]["drop-ins"] == []


def test_the_next_start_removes_the_drop_in_of_a_killed_container(steps):
    assert steps("kept")["killed"]["drop-ins"] == [r"gpu-kept\x2dname.scope"]
    assert steps("free")["started"]["drop-ins"] == []


def test_the_mps_daemon_of_a_container_is_a_service_and_ends_with_it(steps):
    share = steps("share")
    assert share["started"]["programs"] == ["nvidia-cuda-mps-control"]
    assert share["reloaded"]["units"] == [share["started"]["unit"]]
    assert findings(share["reloaded"]) == []
    assert (share["deleted"]["units"], share["deleted"]["left"]) == ([], [])
