"""An agent is killed at each step of a launch and comes up again: no GPU is lost, none is given twice."""

from __future__ import annotations

import json
import os
import time
import uuid

import pytest

from tests.mesos.conftest import leases
from tests.mesos.launched import STEPS
from tests.mesos.test_accounting import SLEEP, has
from tests.mesos.test_unified import REACH, gpus
from tests.runtime.fixtures import oci_gpu

NOW = {"OCI_GPU_WAIT": "0"}
BEFORE_THE_TASK = STEPS[: STEPS.index("released")]
EXECUTOR = {"kind": "custom", "image": "", "command": {"shell": True, "value": "sleep 600"}, "group": True}


def assert_all_is_free(mesos, simulated) -> None:
    """Nobody holds a GPU, another task gets them all, and what the hook has kept of the dead goes with it.

    Where a hook was killed while it took that back, starts leave it alone for a while, and `repair` does it.
    """
    assert leases(simulated) == {}
    assert gpus(mesos.run(*REACH, gpus=2, environment=NOW).seen()) == {"nvidia0", "nvidia1"}
    ids = {running.id for running in mesos.started[:-1]}
    kept = [name for name in os.listdir(simulated.state_dir / "containers") if name.split("~")[0] in ids]
    if any(name.endswith(".tried") for name in kept):
        oci_gpu("--config", simulated.config, "repair", "--all")
        kept = [name for name in os.listdir(simulated.state_dir / "containers") if name.split("~")[0] in ids]
    assert kept == []
    assert oci_gpu("--config", simulated.config, "verify") == "No running container was given GPUs.\n"


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
@pytest.mark.parametrize("step", BEFORE_THE_TASK)
def test_before_the_task_runs(mesos, simulated, step, pid_namespace):
    lost = mesos.start(command=SLEEP, gpus=1, dies=step, pid_namespace=pid_namespace)
    lost.wait_for_dead_agent()
    agent = mesos.recover()
    assert (agent.recovered, agent.destroyed) == (set(), {lost.id})
    agent.end()
    assert "ready" not in lost.stdout()
    assert_all_is_free(mesos, simulated)


@pytest.mark.parametrize("kind", ["command", "custom"])
def test_when_the_helper_was_let_go(mesos, simulated, kind):
    running = mesos.start(command=SLEEP, gpus=1, dies="released", kind=kind)
    running.wait_for_dead_agent()
    agent = mesos.recover()
    assert (agent.recovered, agent.destroyed) == ({running.id}, set())
    assert len(gpus_of(running)) == 1
    (held,) = leases(simulated).values()
    other = gpus(mesos.run(*REACH, gpus=1, environment=NOW).seen())
    assert (len(held), other & gpus_of(running)) == (1, set())
    assert agent.end(kill=True)[running.id].status != 0
    assert_all_is_free(mesos, simulated)


def test_while_the_hook_is_about_to_run(mesos, simulated):
    """Another command before the task's holds up the launch; the hook then runs under the agent that came after."""
    fifo = mesos.directory / "fifo"
    os.mkfifo(fifo)
    before = [{"shell": True, "value": f"cat {fifo}"}]
    running = mesos.start(command=SLEEP, gpus=1, pre_exec=before, kind="custom")
    with open(fifo, "w"):
        running.kill_agent()
        agent = mesos.recover()
        assert agent.recovered == {running.id}
        assert leases(simulated) == {}
    assert len(gpus_of(running)) == 1
    assert list(leases(simulated)) == [running.id]
    agent.end(kill=True)
    assert_all_is_free(mesos, simulated)


def test_while_the_hook_waits(mesos, simulated):
    """A task that waits for a GPU is waited for, whatever its agent does, and gets it."""
    first = mesos.start(command=SLEEP, gpus=2)
    assert has(first) == {"nvidia0", "nvidia1"}
    second = mesos.start(command=SLEEP, gpus=2, environment={"OCI_GPU_WAIT": "60"})
    wait_for(lambda: second.id in queue(simulated))
    first.kill_agent()
    second.kill_agent()
    agent = mesos.recover()
    assert agent.recovered == {first.id, second.id}
    assert "ready" not in second.stdout()
    first.signal("mesos-executor")
    first.signal("sleep")
    wait_for(lambda: "ready" in second.stdout())
    assert list(leases(simulated)) == [second.id]
    ended = agent.end(kill=True)
    assert set(ended) == {first.id, second.id}
    assert_all_is_free(mesos, simulated)


def test_while_the_task_runs(mesos, simulated):
    running = mesos.start(command=SLEEP, gpus=1)
    assert has(running) == {"nvidia0"}
    for _ in range(2):  # the second time it is an agent that has itself taken over
        held = leases(simulated)
        if running.process.poll() is None:
            running.kill_agent()
        agent = mesos.recover()
        assert agent.recovered == {running.id}
        assert leases(simulated) == held
        agent.process.kill()
        agent.process.communicate()
    agent = mesos.recover()
    assert agent.end(kill=True)[running.id].updates.count("TASK_RUNNING") == 1
    assert_all_is_free(mesos, simulated)


def test_when_the_task_has_ended_and_is_not_cleaned_up(mesos, simulated):
    ended = mesos.start(*REACH, gpus=2, dies="ended")
    ended.wait_for_dead_agent()
    assert gpus(mesos.run(*REACH, gpus=2, environment=NOW).seen()) == {"nvidia0", "nvidia1"}
    agent = mesos.recover()
    assert (agent.recovered, agent.destroyed) == (set(), {ended.id})
    agent.end()
    assert_all_is_free(mesos, simulated)


@pytest.mark.parametrize("step", ["provisioned", "prepared", "forked", "checkpointed", "isolated", "released"])
def test_at_each_step_of_a_nested_launch(mesos, simulated, step):
    name = str(uuid.uuid4())
    task = {"id": name, "image": mesos.image(), "command": SLEEP, "gpus": 1}
    group = mesos.start(**EXECUTOR, nested=[task], dies=f"nested {step}")
    group.wait_for_dead_agent()
    agent = mesos.recover()
    assert agent.recovered == {group.id}
    if step == "released":
        wait_for(lambda: "ready" in group.stdout(name))
        assert list(leases(simulated)) == [f"{group.id}.{name}"]
    else:
        assert "ready" not in group.stdout(name)
    agent.end(kill=step == "released")
    assert_all_is_free(mesos, simulated)


@pytest.mark.parametrize("kind", ["command", "custom"])
def test_at_any_moment_of_a_launch_which_is_then_destroyed(mesos, simulated, kind):
    """The hook is killed wherever it is: before it holds a GPU, with one, between two mounts, after the last."""
    for twentieth in range(2, 18, 2):
        running = mesos.start(command=SLEEP, gpus=1, kind=kind)
        time.sleep(twentieth / 20)
        running.kill_agent()
        agent = mesos.recover()
        agent.end(kill=True)
        assert agent.recovered | agent.destroyed in ({running.id}, set())  # set(): not even known yet
        assert leases(simulated) == {}
    assert_all_is_free(mesos, simulated)


def gpus_of(running) -> set[str]:
    """Return the GPUs of a container whose own agent is gone."""
    wait_for(lambda: "ready" in running.stdout())
    return gpus({a["do"]: a["value"] for a in map(json.loads, running.stdout().splitlines()[:-1])})


def queue(simulated) -> str:
    return (simulated.state_dir / "leases.json").read_text()


def wait_for(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
