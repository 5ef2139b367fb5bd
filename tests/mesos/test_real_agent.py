"""What a real agent was seen to do with this project, each row of it, with the flags that it had.

Apache Mesos 1.12-dev, August 2024: --launcher=linux --isolation=filesystem/linux,docker/runtime,cgroups/devices,
namespaces/pid,linux/capabilities, cgroup v1. Its tasks were command tasks in an image.
"""

from __future__ import annotations

import json

import pytest

from tests.mesos.conftest import leases
from tests.mesos.test_accounting import SLEEP, has
from tests.mesos.test_isolation import ALLOW, DOCKERS, ONE, OPEN
from tests.mesos.test_unified import LIBRARY, NO_IMAGE_ENVIRONMENT, REACH, gpus

SEEN = (*REACH, "mknod=/dev/minectl:195:255", "open=/dev/minectl", LIBRARY)
STARTED = ["TASK_STARTING", "TASK_RUNNING"]
FINISHED = [*STARTED, "TASK_FINISHED Command exited with status 0"]
# The hook runs in the second launch of a command task, which its executor begins with: after TASK_RUNNING.
FAILED = [*STARTED, "TASK_FAILED Command exited with status 1"]
FLAGS = {"kind": "command", "pid_namespace": True}


def test_task_that_names_a_gpu(mesos, simulated):
    ended = mesos.run(*SEEN, **FLAGS, environment={"NVIDIA_VISIBLE_DEVICES": "0"})
    assert gpus(ended.seen()) == {"nvidia0"}
    assert ended.seen()[LIBRARY].endswith("/libcuda.so.1")
    assert ended.updates == FINISHED
    assert leases(simulated) == {}


@pytest.mark.parametrize("asks", ["not", "void"])
def test_task_that_asks_for_nothing(mesos, asks):
    image = mesos.image("debian", NO_IMAGE_ENVIRONMENT) if asks == "not" else mesos.image()
    environment = {} if asks == "not" else {"NVIDIA_VISIBLE_DEVICES": "void"}
    ended = mesos.run(*SEEN, **FLAGS, image=image, environment=environment)
    seen = ended.seen()
    assert gpus(seen) == set()
    assert seen["open=/dev/minectl"] == "EPERM"
    assert "cannot open shared object file" in seen[LIBRARY]
    assert not [name for name in seen["list=/dev"] if name.startswith("nvidia")]
    assert (ended.stderr, ended.updates) == ("", FINISHED)


def test_task_that_names_a_device_which_there_is_not(mesos, simulated):
    ended = mesos.run(*SEEN, **FLAGS, environment={"NVIDIA_VISIBLE_DEVICES": "7"})
    assert "unknown device '7'" in ended.complaint()
    assert ended.updates == FAILED
    assert (ended.stdout, leases(simulated)) == ("", {})


def test_two_tasks_an_agent_that_comes_up_again_and_a_session(mesos, simulated):
    """Four rows: a GPU each; the first is lost and its GPU given again; the second keeps its own; a session sees it."""
    first = mesos.start(command=SLEEP, gpus=1, **FLAGS)
    assert has(first) == {"nvidia0"}
    second = mesos.start(command=SLEEP, gpus=1, **FLAGS)
    assert has(second) == {"nvidia1"}
    before = leases(simulated)

    first.signal("mesos-executor")
    assert first.end()[0].status != 0
    second.kill_agent()
    assert leases(simulated) == {second.id: before[second.id]}
    agent = mesos.recover(sessions={second.id: REACH})
    assert (agent.recovered, agent.destroyed) == ({second.id}, set())

    third = mesos.run(*REACH, gpus=1, **FLAGS, environment={"OCI_GPU_WAIT": "0"})
    assert gpus(third.seen()) == {"nvidia0"}
    assert leases(simulated) == {second.id: before[second.id]}
    ended = agent.end(kill=True)
    (session,) = [each for name, each in ended.items() if name != second.id]
    assert gpus(session.seen()) == {"nvidia1"}
    assert ended[second.id].updates[:2] == STARTED
    assert leases(simulated) == {}


def test_executor_that_is_killed_while_no_agent_is_there(mesos, simulated):
    """Without a pid namespace its task lives on, and so does its lease, until an agent comes up and destroys it."""
    first = mesos.start(command=SLEEP, gpus=1)
    assert has(first) == {"nvidia0"}
    second = mesos.start(command=SLEEP, gpus=1)
    assert has(second) == {"nvidia1"}
    before = leases(simulated)
    first.kill_agent()
    second.kill_agent()
    first.signal("mesos-executor")
    assert leases(simulated) == before
    agent = mesos.recover()
    assert (agent.recovered, agent.destroyed) == ({second.id}, {first.id})
    assert gpus(mesos.run(*REACH, gpus=1, environment={"OCI_GPU_WAIT": "0"}).seen()) == {"nvidia0"}
    assert agent.end(kill=True)[second.id].updates[-1].startswith("reregistered")


# What a root task tries in order to reach its neighbour's GPU.
WRITE = f"echo 'c 195:1 rwm' > {ALLOW}"
REMOUNT = f"mount -o remount,rw {ALLOW.rpartition('/')[0]}"
FRESH = "/bin/busybox mkdir /mine && mount -t cgroup -o devices none /mine"


@pytest.mark.parametrize(
    "tried",
    [
        WRITE,
        f"{REMOUNT}; {WRITE}",
        f"{FRESH}; for f in $(ls -d /mine/mesos/*); do echo 'c 195:1 rwm' > $f/devices.allow; done",
    ],
    ids=["write", "remount", "fresh"],
)
def test_root_task_without_sys_admin_reaches_no_gpu_of_its_neighbour(mesos, tried):
    neighbour = mesos.start(command=SLEEP, environment={"NVIDIA_VISIBLE_DEVICES": "1"}, **FLAGS)
    assert has(neighbour) == {"nvidia1"}
    command = {"shell": True, "value": f"({tried}); {OPEN}"}
    ended = mesos.run(command=command, environment=ONE, capabilities=DOCKERS, **FLAGS)
    assert ended.seen()["open=/dev/mine"] == "EPERM"
    assert "Read-only file system" in ended.stderr or "permitted" in ended.stderr or "denied" in ended.stderr
    neighbour.kill()


def test_root_task_with_sys_admin_fails_by_the_plain_write(mesos):
    command = {"shell": True, "value": f"({WRITE}); {OPEN}"}
    ended = mesos.run(command=command, environment=ONE, **FLAGS)
    assert ended.seen()["open=/dev/mine"] == "EPERM"
    assert "Read-only file system" in ended.stderr


def test_what_remains_a_root_task_with_sys_admin_mounts_the_cgroups_again(mesos):
    """The limit that docs/mesos.md states."""
    allow = "for f in $(ls -d /mine/mesos/*); do echo 'c 195:1 rwm' > $f/devices.allow; done"
    ended = mesos.run(command={"shell": True, "value": f"({FRESH}; {allow}); {OPEN}"}, environment=ONE, **FLAGS)
    assert ended.seen()["open=/dev/mine"] == "ENXIO"


def test_lease_record_names_what_mesos_does(mesos, simulated):
    """The framework and the executor of whoever holds a GPU are in the bundle that stands for it."""
    running = mesos.start(command=SLEEP, gpus=1, **FLAGS)
    has(running)
    (bundle,) = [path for path in (simulated.state_dir / "mesos").iterdir() if path.name.startswith(running.id)]
    annotations = json.loads((bundle / "config.json").read_text())["annotations"]
    assert (annotations["mesos.framework-id"], annotations["mesos.executor-id"]) == ("F0", "e")
    running.kill()
