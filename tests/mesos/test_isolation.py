"""What keeps a task from GPUs that it was not given, with stock Mesos and with the hook."""

from __future__ import annotations

import pytest

ALLOW = "/sys/fs/cgroup/devices/devices.allow"
OPEN = "/probe mknod=/dev/mine:195:1 open=/dev/mine"
GRANT_ITSELF = {"shell": True, "value": f"echo 'c 195:1 rwm' > {ALLOW}; {OPEN}"}
ONE = {"NVIDIA_VISIBLE_DEVICES": "0"}
NONE = {"NVIDIA_VISIBLE_DEVICES": "void"}
DOCKERS = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "MKNOD", "SETGID", "SETUID", "SYS_CHROOT"]


@pytest.mark.parametrize("kind", ["command", "custom"])
def test_root_task_of_stock_mesos_grants_itself_any_device(mesos, kind):
    ended = mesos.run(command=GRANT_ITSELF, environment=NONE, kind=kind)
    assert ended.seen()["open=/dev/mine"] == "ENXIO"


@pytest.mark.parametrize("kind", ["command", "custom"])
def test_root_task_with_gpus_cannot(mesos, kind):
    ended = mesos.run(command=GRANT_ITSELF, environment=ONE, kind=kind)
    assert "Read-only file system" in ended.stderr
    assert ended.seen()["open=/dev/mine"] == "EPERM"


def test_root_task_in_a_group_cannot_grant_its_group_a_device(mesos):
    task = {"image": mesos.image(), "environment": ONE, "command": GRANT_ITSELF}
    executor = {"shell": True, "value": "sleep 60"}
    ended = mesos.start(kind="custom", image="", command=executor, nested=[task]).end()[0]
    assert ended.seen()["open=/dev/mine"] == "EPERM"


def test_what_remains_a_root_task_that_may_mount_opens_it_again(mesos):
    remount = f"mount -o remount,rw,bind {ALLOW.rpartition('/')[0]}; {GRANT_ITSELF['value']}"
    ended = mesos.run(command={"shell": True, "value": remount}, environment=ONE)
    assert ended.seen()["open=/dev/mine"] == "ENXIO"


def test_root_task_that_may_not_mount_does_not(mesos):
    remount = f"mount -o remount,rw,bind {ALLOW.rpartition('/')[0]}; {GRANT_ITSELF['value']}"
    command = {"shell": True, "value": remount}
    ended = mesos.run(command=command, environment=ONE, capabilities=DOCKERS)
    assert ended.seen()["open=/dev/mine"] == "EPERM"


def test_container_sees_its_gpus_only_in_procfs(mesos, simulated):
    seen = mesos.run("list=/proc/driver/nvidia/gpus", environment=ONE).seen()
    assert seen["list=/proc/driver/nvidia/gpus"] == [simulated.gpus()[0].bus_id]
