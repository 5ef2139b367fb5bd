"""`oci-gpu detach` while a process of the container has the GPU open: a node of the host's that opens stands for it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.simulated import SimulatedHost

pytestmark = pytest.mark.root
FUSE = os.makedev(10, 229)  # which no container may open, and which opens where there is no GPU
STAYS = ("/bin/busybox", "sh", "-c", "trap '' TERM; exec 9</dev/nvidia0; echo open; exec sleep 100")
HOLDS = ("/bin/busybox", "sh", "-c", "exec 9</dev/nvidia0; echo open; exec sleep 100")

PAUSED_AMID = """
import subprocess, sys
from oci_gpu_hook.apply.device_access import cgroup
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.lifecycle.freezing import Frozen
pid, name, state_dir, *command = sys.argv[1:]
with cgroup.find(int(pid)) as devices, Frozen(int(pid), name, devices, Config(state_dir=state_dir)) as frozen:
    accepted = subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    assert (not frozen.fault()) == (not accepted)
print(accepted)
"""


@pytest.fixture
def host(directory):
    """A host of the test's own, with one GPU, whose node opens."""
    made = SimulatedHost(Path(make(str(directory / "host"), gpus=1).directory))
    (made.dev / "nvidia0").unlink()
    os.mknod(made.dev / "nvidia0", stat.S_IFCHR | 0o666, FUSE)
    return made


class Busy:
    """A container of which a process has its GPU open."""

    def __init__(self, runtime, container, host) -> None:
        self.runtime = runtime
        self.container = container
        self.host = host

    def detach(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = Path(sys.executable).with_name("oci-gpu")
        words = ("--config", self.host.config, "detach", self.container.id, "--all", *arguments)
        done: subprocess.CompletedProcess[str] = self.runtime.host.call(
            path, *words, "--runtime-root", self.runtime.state_dir, check=False
        )
        return done

    def opens(self) -> str:
        return str(self.container.exec("/probe", "open=/dev/nvidia0").seen()["open=/dev/nvidia0"])


@pytest.fixture
def busy(request, runtime, make_bundle, host):
    words = getattr(request, "param", HOLDS)
    bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)
    with runtime.started(bundle) as container:
        arguments = ("--root", runtime.state_dir, "exec", container.id, *words)
        process = subprocess.Popen(runtime.host.command(runtime.binary, *arguments), stdout=subprocess.PIPE)
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        yield Busy(runtime, container, host)
        process.kill()
        process.wait()


def holder(busy: Busy) -> int:
    """The pid on the host of the process that has it open."""
    namespace = os.readlink(f"/proc/{busy.container.pid}/ns/pid")
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/ns/pid") == namespace and os.readlink(f"/proc/{name}/fd/9"):
                return int(name)
        except OSError:
            continue
    raise AssertionError("nobody has it open")


@pytest.mark.parametrize("busy", [STAYS], indirect=True, ids=[""])
def test_a_repair_meanwhile_gives_nothing_back(busy, host):
    """Detach has taken access and gives the process its time to end; `watch` repairs by the same code."""
    command = (Path(sys.executable).with_name("oci-gpu"), "--config", host.config)
    words = ("detach", busy.container.id, "--all", "--force", "--grace", "9", "--runtime-root", busy.runtime.state_dir)
    with subprocess.Popen(busy.runtime.host.command(*command, *words), stdout=subprocess.PIPE, text=True) as detaching:
        while busy.opens() != "EPERM":
            assert detaching.poll() is None
        repair = busy.runtime.host.call(*command, "repair", busy.container.id, check=False)
        assert repair.returncode == 1, repair.stdout
        assert "[OGH1520]" in repair.stderr
        said, _ = detaching.communicate(timeout=60)
    assert detaching.returncode == 0, said
    assert busy.opens() != "open"


def test_it_is_refused_and_names_the_process_with_its_memory(busy, host):
    pid = holder(busy)
    (host.directory / "usage").write_text(f"gpu 0 process {pid} compute 2560 50 20\n")
    done = busy.detach()
    assert done.returncode == 1
    assert f"are in use by process {pid} ('sleep', 2.5 GiB); end them first" in done.stderr
    assert busy.opens() == "opened"


def test_without_nvml_the_process_is_named_all_the_same(busy, host):
    for library in host.driver_root.rglob("libnvidia-ml.so*"):
        library.unlink()
    done = busy.detach()
    assert done.returncode == 1
    assert f"are in use by process {holder(busy)} ('sleep'); end them first" in done.stderr


def test_by_force_the_process_ends_and_no_other(busy):
    pid = holder(busy)
    done = busy.detach("--force")
    assert done.returncode == 0, done.stderr
    assert f"ended process {pid} (sleep)" in done.stdout
    assert not Path(f"/proc/{pid}/fd/9").exists()
    assert busy.opens() == "ENOENT"
    assert busy.container.state()["status"] == "running"


def test_an_exec_into_a_container_that_is_looked_at_is_refused_and_does_not_hang(runc_v2, make_bundle, host):
    """As docs/attach.md says: for that moment it is to the runtime as one that is paused."""
    with runc_v2.started(make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)) as container:
        rows = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
        own = next(row.split(":", 2)[2] for row in rows if row.startswith("0:"))
        freezer = runc_v2.host.path(f"/sys/fs/cgroup{own}/cgroup.freeze")
        words = ("--root", runc_v2.state_dir, "exec", container.id, "/bin/true")
        freezer.write_text("1")
        refused = runc_v2.host.call(runc_v2.binary, *words, check=False)
        freezer.write_text("0")
        assert refused.returncode != 0
        assert "paused" in refused.stderr
        assert runc_v2.host.call(runc_v2.binary, *words, check=False).returncode == 0


def test_a_pause_while_it_is_looked_at_stays_where_the_runtime_has_accepted_it(runtime, make_bundle, host):
    """crun pauses what stands still already; runc refuses to, as it takes it for paused."""
    with runtime.started(make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)) as container:
        pause = (runtime.binary, "--root", runtime.state_dir, "pause", container.id)
        words = (container.pid, container.id, host.state_dir, *pause)
        said = runtime.host.call(sys.executable, "-c", PAUSED_AMID, *words).stdout
        accepted = said == "True\n"
        assert accepted == runtime.name.startswith("crun")
        assert container.state()["status"] == ("paused" if accepted else "running")
        if accepted:
            runtime.host.call(runtime.binary, "--root", runtime.state_dir, "resume", container.id)
            assert container.state()["status"] == "running"
