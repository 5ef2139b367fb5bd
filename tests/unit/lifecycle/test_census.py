"""In which container a process runs: by what runtimes keep of their containers, and by what the kernel says."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import contextmanager

import pytest

from oci_gpu_hook.allocation.holders import Processes
from oci_gpu_hook.allocation.model import Lease, LeasedDevice
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.processes import start_time
from oci_gpu_hook.lifecycle.census import Census

pytestmark = pytest.mark.root
ME = os.getpid()


@contextmanager
def container(directory, name):
    """Run a process in a mount and a pid namespace of its own, of which a crun keeps a state; yield its pid."""
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "echo; exec sleep 100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
            pid = int(children.read())
        state = {"pid": pid, "process-start-time": start_time(pid), "bundle": "/none", "rootfs": "/none/rootfs"}
        (directory / name).mkdir(parents=True, mode=0o755)
        (directory / name / "status").write_text(json.dumps(state))
        try:
            yield pid
        finally:
            process.kill()
            while start_time(pid):
                time.sleep(0.01)


def in_namespaces_of(pid):
    return subprocess.Popen(["nsenter", f"--target={pid}", "--mount", "--pid", "--no-fork", "sleep", "100"])


def lease(pid, name):
    holder = Processes().holder(pid)
    assert holder
    return Lease(
        container=name, devices=(LeasedDevice(whole="GPU-0"),), exclusive=False, holder=holder, since="", pod="a/b/c"
    )


def test_a_process_of_a_container_of_which_a_runtime_knows(tmp_path):
    census = Census(Config(state_dir=f"{tmp_path}/state"), (str(tmp_path / "crun"),))
    census.take(())
    assert census.of_process(ME) is None
    with container(tmp_path / "crun", "first") as pid:
        census.take(())
        found = census.of_process(pid)
        assert found
        assert (found.id, found.pid, found.called) == ("first", pid, "first")
        with in_namespaces_of(pid) as further:
            while os.readlink(f"/proc/{further.pid}/ns/mnt") != os.readlink(f"/proc/{pid}/ns/mnt"):
                time.sleep(0.01)
            assert census.of_process(further.pid) == found
            further.kill()
        with container(tmp_path / "crun", "second") as later:
            census.take(())
            assert [one.id for one in map(census.of_process, (later, pid)) if one] == ["second", "first"]
            assert census.of_process(ME) is None
    census.take(())
    assert census.of_process(pid) is None


def test_a_holder_of_which_nothing_else_is_known(tmp_path):
    census = Census(Config(state_dir=f"{tmp_path}/state"), (str(tmp_path / "crun"),))
    with container(tmp_path / "elsewhere", "x") as pid:
        held = lease(pid, "hidden")
        census.take([held])
        assert census.of_lease(held).called == "a/b/c"
        found = census.of_process(pid)
        assert found
        assert (found.id, found.engine, found.name) == ("hidden", "", "")
        starting = held.replace(container="other", starting=True)
        census.take([held, starting])
        assert (census.of_lease(starting).id, census.of_lease(starting).pid) == ("other", 0)


def test_a_process_that_shares_its_cgroups_with_its_starter_proves_nothing_by_them(tmp_path):
    """As of `podman run --cgroups=disabled`: this process is in the same cgroups, and not in the container."""
    census = Census(Config(state_dir=f"{tmp_path}/state"), (str(tmp_path / "crun"),))
    with container(tmp_path / "crun", "first") as pid:
        cgroups = [open(f"/proc/{one}/cgroup").read() for one in (ME, pid)]  # noqa: SIM115
        assert cgroups[0] == cgroups[1]
        census.take(())
        assert census.of_process(ME) is None
