"""What holds a container to its parts of GPUs: in the plan, refused where it cannot be, and not loaded for others."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oci_gpu_hook.apply.mps import place
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import ApplyError, InvalidInput
from oci_gpu_hook.devices.edits import ContainerEdits, Mount
from oci_gpu_hook.devices.model import Limiter
from oci_gpu_hook.lifecycle import limiting
from oci_gpu_hook.oci.container import IdMapping
from oci_gpu_hook.oci.image import Image
from oci_gpu_hook.plan.plan import Plan
from tests.unit.allocation.leasing import bundle, request

PIPE = "/tmp/nvidia-mps"
LIMITER = Limiter(program="/usr/bin/nvidia-cuda-mps-control", environment=(), commands=(), pipe=PIPE)


def plan(*mounts):
    return Plan(
        request=request(), image=Image.__new__(Image), devices=(), edits=ContainerEdits(mounts=mounts), links=(),
        files=(), ld_cache=(), driver_version="",
    )  # fmt: skip


def added(*mounts, env=()):
    container = bundle("a", 0).replace(env=env)
    return limiting.added(plan(*mounts), LIMITER, container, Config(state_dir="/state"))


def test_the_pipe_directory_is_mounted_read_only():
    (mount,) = added().edits.mounts
    assert (mount.host_path, mount.container_path) == ("/state/mps/PID-START-BOOT/pipe", PIPE)
    assert {"ro", "nosuid", "nodev", "noexec"} < set(mount.options)
    assert mount.directory
    assert not mount.optional


def test_the_hosts_own_daemon_gives_way_with_a_warning():
    made = added(Mount(host_path=PIPE, container_path=PIPE, directory=True))
    assert [mount.host_path for mount in made.edits.mounts] == ["/state/mps/PID-START-BOOT/pipe"]
    assert made.warnings[0].startswith("NVIDIA_MPS is not read")


@pytest.mark.parametrize(("said", "warned"), [("/tmp/nvidia-mps/", False), ("/elsewhere", True), ("", True)])
def test_a_variable_that_leads_away_is_warned_of(said, warned):
    found = added(env=(f"CUDA_MPS_PIPE_DIRECTORY={said}",)).warnings
    assert bool(found) == warned
    assert not warned or "keeps the container's programs from the MPS daemon" in found[0]


def test_who_cannot_be_served_is_refused(monkeypatch):
    container = bundle("a", 0).replace(uid_mappings=(IdMapping(container_id=0, host_id=1, size=1),))
    with pytest.raises(InvalidInput, match="a user namespace, whose programs MPS does not serve; start it without"):
        limiting.limiter(container, request(cores=1), None, ())  # type: ignore[arg-type]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(InvalidInput, match="only root can start the MPS daemon"):
        limiting.limiter(bundle("a", 0), request(cores=1), None, ())  # type: ignore[arg-type]
    monkeypatch.undo()
    with pytest.raises(InvalidInput, match=r"kind 'amd.com/gpu': this project can hold containers to parts of NVIDIA"):
        limiting.limiter(bundle("a", 0), request(cores=1, kind="amd.com/gpu"), None, ())  # type: ignore[arg-type]


def test_a_state_directory_with_a_long_path_is_refused(tmp_path):
    with pytest.raises(ApplyError, match="has too long a path for the sockets of MPS"):
        place.make(str(tmp_path / ("x" * 90)), "1-1-a")


@pytest.mark.parametrize("name", ["x", "1", "1-x-a", "-", "1-2", "../1-1-a"])
def test_what_is_not_this_projects_is_left_alone(name):
    assert place.has_ended(name) == (name == "1-2")  # of no boot at all


def test_other_containers_load_none_of_it():
    program = (
        "import sys; from oci_gpu_hook.lifecycle import start; from oci_gpu_hook.request import parse; "
        "from oci_gpu_hook.devices.nvidia import vendor; from oci_gpu_hook.allocation import allocate, by_count; "
        "print([name for name in sys.modules if 'mps' in name or 'limiting' in name or 'share' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
