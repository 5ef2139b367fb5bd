"""Tasks that run as users: their GPUs open, others do not, and who may not open a node by its group is told."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.mesos.conftest import leases
from tests.mesos.test_isolation import ALLOW
from tests.mesos.test_unified import LIBRARY
from tests.runtime.fixtures import oci_gpu

OPEN = ("open=/dev/nvidia0", "open=/dev/nvidia1", "open=/dev/nvidiactl", "list=/dev", LIBRARY)
WWW_DATA = 33  # the group of Debian's account of that name
GROUP = 4242
EXECUTOR = {"kind": "custom", "image": "", "command": {"shell": True, "value": "sleep 600"}}


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
@pytest.mark.parametrize("kind", ["command", "custom", "nested"])
def test_task_of_a_user_has_its_gpu_and_no_other(mesos, simulated, kind, pid_namespace):
    options = {"user": "nobody", "gpus": 1, "pid_namespace": pid_namespace}
    command = {
        "shell": True,
        "value": f"/probe {' '.join(OPEN)} mknod=/mnt/mesos/sandbox/mine:195:1; echo x > {ALLOW}; true",
    }
    if kind == "nested":
        task = {"image": mesos.image(), "command": command, **options}
        ended = mesos.start(**EXECUTOR, nested=[task], pid_namespace=pid_namespace).end()[0]
    else:
        ended = mesos.run(command=command, kind=kind, **options)
    seen = ended.seen()
    assert (seen["open=/dev/nvidia0"], seen["open=/dev/nvidia1"], seen["open=/dev/nvidiactl"]) == (
        "ENXIO",
        "ENOENT",
        "ENXIO",
    )
    assert seen[LIBRARY].endswith("/libcuda.so.1")
    assert seen["mknod=/mnt/mesos/sandbox/mine:195:1"] == "EPERM"
    assert "Read-only file system" in ended.stderr or "ermission denied" in ended.stderr
    assert leases(simulated) == {}


@pytest.fixture
def of_a_group(mesos, simulated, real_launcher):
    """Make a host whose GPU nodes are of a group: of_a_group(gid) -> (host, launcher directory)."""

    def of_a_group(gid: int):
        host = simulated.copy(mesos.directory / "host")
        for node in host.dev.glob("nvidia*"):
            if node.is_char_device():
                os.chown(node, 0, gid)
                node.chmod(0o660)
        launcher = mesos.directory / "front"
        oci_gpu("--config", host.config, "install", "mesos", "--launcher-dir", real_launcher, "--output", launcher)
        return host, launcher

    return of_a_group


@pytest.mark.parametrize("kind", ["command", "custom"])
@pytest.mark.parametrize(("user", "opens"), [("root", True), ("www-data", True), ("nobody", False)])
def test_nodes_of_a_group(mesos, of_a_group, user, opens, kind):
    _host, launcher = of_a_group(WWW_DATA)
    asks = {"NVIDIA_VISIBLE_DEVICES": "0"}
    ended = mesos.run(*OPEN, user=user, environment=asks, launcher=launcher, kind=kind)
    assert ended.seen()["open=/dev/nvidia0"] == ("ENXIO" if opens else "EACCES")
    told = [line for line in ended.stderr.splitlines() if " may not open " in line]
    assert len(told) == (0 if opens else 1)
    for line in told:
        assert "the container's user 65534 may not open /dev/nvidia0, /dev/nvidiactl" in line
        assert f"(each of mode 0660, owner 0, group {WWW_DATA}): " in line
        assert "the account of a Mesos task on its host" in line
        assert "oci-gpu-runtime" in line


def test_groups_of_an_account(mesos, of_a_group):
    """As Mesos does, the hook takes the groups that the host's account has, and tells `plan` and `verify` of them."""
    host, launcher = of_a_group(GROUP)
    groups = mesos.directory / "group"
    groups.write_text(Path("/etc/group").read_text() + f"gpus:x:{GROUP}:nobody\n")
    mesos.host.call("mount", "--bind", groups, "/etc/group")
    try:
        asks = {"NVIDIA_VISIBLE_DEVICES": "0"}
        command = {"shell": True, "value": f"/probe {OPEN[0]}; echo ready; sleep 600"}
        running = mesos.start(command=command, user="nobody", environment=asks, launcher=launcher)
        assert "ENXIO" in running.wait_for("ready")
        (bundle,) = (host.state_dir / "mesos").iterdir()
        user = json.loads((bundle / "config.json").read_text())["process"]["user"]
        assert (user["uid"], GROUP in user["additionalGids"]) == (65534, True)
        program = Path(sys.executable).with_name("oci-gpu")
        done = mesos.host.call(program, "--config", host.config, "verify", running.id)
        assert done.stdout.endswith(f" (mesos {running.id}): has what it was given\n")
        (ended,) = running.kill()
        assert " may not open " not in ended.stderr
    finally:
        mesos.host.call("umount", "/etc/group")


def test_account_that_there_is_not(mesos, simulated):
    ended = mesos.run(*OPEN, user="nobody-has-this-name", gpus=1, kind="custom")
    assert ended.status != 0
    assert "nobody-has-this-name" in ended.stderr  # the helper's own words
    assert leases(simulated) == {}
