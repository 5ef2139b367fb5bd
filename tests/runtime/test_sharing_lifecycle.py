"""A container with a part of a GPU while it runs and across restarts, and what becomes of its daemon."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.base.processes import boot_id, start_time
from tests.runtime.sharing import PIPE, SHARE, daemons, nothing_is_left, settle, shares, watchers

pytestmark = pytest.mark.root
HELD = "8192 of 81559 MiB, 66, 0"


@pytest.fixture
def host(sharing_host):
    return sharing_host


@pytest.fixture
def bundle(make_bundle, host):
    return make_bundle(config=host.config, env=SHARE, args=("/bin/sleep", "100"))


@pytest.fixture
def running(runtime, bundle, host):
    with runtime.started(bundle) as container:
        yield container
    settle(lambda: nothing_is_left(host))


@pytest.fixture
def oci_gpu(runtime, host):
    """Run `oci-gpu` on the runtime's host; return its status, and what it said."""

    def call(name: str, *arguments: str) -> tuple[int, str]:
        path = Path(sys.executable).with_name("oci-gpu")
        options = ("--runtime-root", runtime.state_dir) if name in ("attach", "detach") else ()
        done = runtime.host.call(path, "--config", host.config, name, *arguments, *options, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return call


def held(container) -> dict[str, str]:
    """Return what a program that is started in the container sees of its GPU."""
    found: dict[str, str] = container.exec("/probe", "cuda=1").seen()
    return found


def test_what_is_started_in_it_later_is_held_too(running):
    assert held(running) == {"cuda=1": HELD}


def test_a_pause_changes_nothing(runtime, running, host):
    before = daemons(host)
    command = (runtime.binary, "--root", runtime.state_dir)
    runtime.host.call(*command, "pause", running.id)
    try:
        assert before == daemons(host)
    finally:
        runtime.host.call(*command, "resume", running.id)
    assert held(running) == {"cuda=1": HELD}


def test_a_restart_has_a_daemon_of_its_own(runtime, bundle, host):
    seen = []
    for _ in range(3):
        with runtime.started(bundle) as container:
            seen.append((daemons(host), shares(host)))
            assert held(container) == {"cuda=1": HELD}
        settle(lambda: nothing_is_left(host))
    assert len({str(each) for each in seen}) == 3
    assert all(len(names) == 1 for _, names in seen)


def test_more_gpus_cannot_be_attached_and_its_own_can_be_taken(running, host, oci_gpu):
    status, said = oci_gpu("attach", running.id, "--devices", "1")
    assert status == 1
    assert f"container '{running.id}': was started with parts of GPUs" in said
    assert held(running) == {"cuda=1": HELD}, "nothing was changed"
    assert oci_gpu("detach", running.id, "--all")[0] == 0
    assert (daemons(host), shares(host)) == ([], [])
    assert PIPE.encode() not in Path(f"/proc/{running.pid}/mountinfo").read_bytes()
    assert oci_gpu("verify", running.id)[0] == 0
    assert json.loads(oci_gpu("leases", "--json")[1]) == []


def test_of_two_gpus_one_is_taken_and_the_other_stays_limited(runtime, make_bundle, host, oci_gpu):
    if len(host.gpus()) < 2:
        pytest.fail("the simulated host has too few GPUs")
    bundle = make_bundle(config=host.config, env=(*SHARE, "OCI_GPU_COUNT=2"), args=("/bin/sleep", "100"))
    with runtime.started(bundle) as container:
        assert oci_gpu("detach", container.id, "--devices", "1")[0] == 0
        assert len(shares(host)) == 1
        (lease,) = json.loads(oci_gpu("leases", "--json")[1])
        assert [(part["memory"], part["cores"]) for part in lease["shares"].values()] == [(8 << 30, 50)]
        assert held(container) == {"cuda=1": HELD}
        assert oci_gpu("verify", container.id)[0] == 0
    settle(lambda: nothing_is_left(host))


def test_a_record_of_a_pid_that_is_another_process_by_now(runtime, bundle, host):
    """The name has the start time: a process with that pid is not taken for the container."""
    stale = Path(host.directory) / "state/mps" / f"{os.getpid()}-{start_time(os.getpid()) - 1}-{boot_id()[:8]}"
    (stale / "pipe").mkdir(parents=True)
    for path in (stale.parent.parent, stale.parent):
        path.chmod(0o700)
    with runtime.started(bundle) as container:
        assert held(container) == {"cuda=1": HELD}
        assert len(shares(host)) == 1, "and it is removed"
        assert stale.name not in shares(host)


def test_a_daemon_whose_files_somebody_removed_ends_all_the_same(runtime, bundle, host):
    with runtime.started(bundle):
        (name,) = shares(host)
        place = Path(host.directory) / "state/mps" / name
        for path in sorted(place.rglob("*"), key=lambda each: -len(str(each))):
            path.rmdir() if path.is_dir() else path.unlink()
        place.rmdir()
        assert len(daemons(host)) == 1
    settle(lambda: nothing_is_left(host))


def test_a_daemon_that_somebody_moved_out_of_its_cgroup_is_no_obstacle(runtime, bundle, host):
    """Its own cgroup is gone, and the next start goes on; what was moved is whose that moved it."""
    with runtime.started(bundle):
        moved = daemons(host)
        for pid in moved:
            (cgroup,) = (path for path in runtime.host.cgroups_named(shares(host)[0]))
            (Path(cgroup).parent.parent / "cgroup.procs").write_text(str(pid))
    settle(lambda: (shares(host), watchers(host)) == ([], []))
    for pid in moved:
        os.kill(pid, signal.SIGKILL)
    with runtime.started(bundle) as container:
        assert held(container) == {"cuda=1": HELD}
