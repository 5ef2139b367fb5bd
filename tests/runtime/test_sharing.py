"""Parts of GPUs under real runtimes: programs are held to them, no daemon outlives its container, refusals help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.sharing import PIPE, SHARE, daemons, settle, shares, watchers
from tests.runtime.simulated import SimulatedHost


@pytest.fixture
def host(sharing_host):
    return sharing_host


def configure(host, text: str) -> None:
    host.config.write_text(host.config.read_text() + text)


def test_a_program_is_held_to_its_part_and_nothing_is_left(runtime, make_bundle, host):
    bundle = make_bundle("cuda=4096", "cuda=8192", f"list={PIPE}", config=host.config, env=SHARE)
    seen = runtime.run(bundle).seen()
    assert seen["cuda=4096"] == "8192 of 81559 MiB, 66, 0"
    assert seen["cuda=8192"] == "4096 of 81559 MiB, 66, 2", "out of memory"
    assert "control" in seen[f"list={PIPE}"]
    assert (daemons(host), shares(host)) == ([], [])


def test_without_a_part_nothing_is_limited_and_no_daemon_starts(runtime, make_bundle, host):
    seen = runtime.run(make_bundle("cuda=60000", f"list={PIPE}", gpus="0", config=host.config)).seen()
    assert seen == {"cuda=60000": "81559 of 81559 MiB, 132, 0", f"list={PIPE}": "ENOENT"}
    assert not (Path(host.directory) / "state/mps").exists()


@pytest.mark.parametrize(
    ("more", "seen"),
    [
        (("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=30G",), "8192 of 81559 MiB, 66, 0"),
        (("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=2G",), "2048 of 81559 MiB, 66, 0"),
        (("CUDA_MPS_PIPE_DIRECTORY=/nonexistent",), "81559 of 81559 MiB, 132, 0"),  # said in docs/sharing.md
    ],
)
def test_what_a_program_can_do_about_it(runtime, make_bundle, host, more, seen):
    bundle = make_bundle("cuda=1024", config=host.config, env=(*SHARE, *more))
    assert runtime.run(bundle).seen() == {"cuda=1024": seen}


def test_two_containers_have_each_their_own(runtime, make_bundle, host):
    other = ("OCI_GPU_MEMORY_LIMIT=20GiB", "OCI_GPU_CORES=25%", SHARE[2])
    first = make_bundle("cuda=1", config=host.config, env=SHARE, name="first")
    second = make_bundle("cuda=1", config=host.config, env=other, name="second")
    with runtime.created(first), runtime.created(second):
        assert (len(daemons(host)), len(shares(host))) == (2, 2)
    third = make_bundle("cuda=1", config=host.config, env=other, name="third")
    assert runtime.run(third).seen() == {"cuda=1": "20480 of 81559 MiB, 33, 0"}


def test_a_container_without_privileges_is_served(runtime, make_bundle, host):
    bundle = make_bundle("cuda=1", f"create={PIPE}/mine", config=host.config, env=SHARE)
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    bundle.write()
    seen = runtime.run(bundle).seen()
    assert seen["cuda=1"].startswith("8192 of")
    assert seen[f"create={PIPE}/mine"] == "EROFS"


SICK = {
    "refuses": "nvidia-cuda-mps-control -d ended with status 1; its log ends with '[simulated] Control",
    "deaf": "does not accept its limits: status 0, 'Failed to set the limit'",
    "mute": "does not accept its limits: status 0, 'no answer'",
    "dies": "does not accept its limits: status 1, 'Cannot find MPS control daemon process'",
    "hangs": "did not come up within",
}


@pytest.mark.parametrize("sickness", SICK)
def test_a_daemon_that_does_not_come_up_fails_the_start_and_nothing_is_left(runtime, make_bundle, host, sickness):
    (Path(host.directory) / "mps").write_text(sickness)
    said = runtime.run(make_bundle("cuda=1", config=host.config, env=SHARE)).complaint()
    assert said.startswith("MPS daemon of the container: ")
    assert SICK[sickness] in said
    assert "check that nvidia-cuda-mps-control -d works on the host, or set [sharing] enforce = " in said
    assert (daemons(host), shares(host)) == ([], [])
    plain = make_bundle("cuda=1", gpus="0", config=host.config, name="plain")
    assert runtime.run(plain).seen()["cuda=1"].endswith(", 0"), "others are not touched, and the part was given back"


def test_a_start_that_fails_later_ends_the_daemon(runtime, make_bundle, host):
    bundle = make_bundle("cuda=1", config=host.config, env=SHARE)
    (bundle.directory / "rootfs/tmp").rmdir()
    (bundle.directory / "rootfs/tmp").symlink_to("/proc/self/fd/9")
    runtime.run(bundle).complaint()
    assert (daemons(host), shares(host)) == ([], [])


def test_the_daemon_ends_with_the_container_though_no_poststop_runs(runtime, make_bundle, host):
    bundle = make_bundle("cuda=1", config=host.config, env=SHARE)
    bundle.config["hooks"].pop("poststop")
    with runtime.created(bundle) as container:
        os.kill(container.state()["pid"], signal.SIGKILL)
        settle(lambda: (daemons(host), shares(host), watchers(host)) == ([], [], []))


def test_the_next_start_ends_what_is_left_when_everything_was_killed(runtime, make_bundle, host, python_hook):
    """A watcher is found by the hook's command line, which that of a worker of the resident does not have."""
    make_bundle = replace(make_bundle, hook=python_hook)
    bundle = make_bundle("cuda=1", config=host.config, env=SHARE)
    bundle.config["hooks"].pop("poststop")
    with runtime.created(bundle) as container:
        for pid in (*watchers(host), container.state()["pid"]):
            os.kill(pid, signal.SIGKILL)
    assert (len(shares(host)), bool(daemons(host))) == (1, True)
    runtime.run(make_bundle("list=/dev", gpus="0", config=host.config, name="next")).seen()
    assert (daemons(host), shares(host)) == ([], [])


def test_a_record_of_an_earlier_boot_is_removed(runtime, make_bundle, host):
    stale = Path(host.directory) / "state/mps/1-1-00000000"
    for directory in ("pipe/77", "log"):
        (stale / directory).mkdir(parents=True)
    (stale / "pipe/77/left").write_text("")
    for path in (stale.parent.parent, stale.parent):
        path.chmod(0o700)
    runtime.run(make_bundle("list=/dev", gpus="0", config=host.config)).seen()
    assert shares(host) == []


def test_verify_sees_a_daemon_that_died(runtime, make_bundle, host):
    bundle = make_bundle("cuda=1", config=host.config, env=SHARE)
    with runtime.created(bundle) as container:
        command = ("verify", container.id, "--json")
        assert oci_gpu(runtime, host, *command)[0]["findings"] == []
        for pid in daemons(host):
            os.kill(pid, signal.SIGKILL)
        settle(lambda: daemons(host) == [])
        (finding,) = oci_gpu(runtime, host, *command)[0]["findings"]
        assert (finding["kind"], finding["repairable"]) == ("limits", False)
        assert "has ended: programs that it served fail, and those that start now have the whole" in finding["why"]


def test_verify_sees_who_uses_more_than_its_part(runtime, make_bundle, host):
    bundle = make_bundle(config=host.config, env=SHARE, args=("/bin/sleep", "100"))
    with runtime.started(bundle) as container:
        pid = container.state()["pid"]
        assert overuse(runtime, host, container, pid, 8000) == []
        (finding,) = overuse(runtime, host, container, pid, 9000)
        assert finding["kind"] == "limits"
        assert "use 9000 MiB of 'GPU-" in finding["why"]
        assert "of which it was given 8192 MiB" in finding["why"]


def overuse(runtime, host, container, pid, used) -> list[dict]:
    """Return what verify finds while a process uses so many MiB."""
    (host.directory / "usage").write_text(f"gpu 0 process {pid} compute {used} 0 0\n")
    (document,) = oci_gpu(runtime, host, "verify", container.id, "--json")
    found: list[dict] = document["findings"]
    return found


def oci_gpu(runtime, host, *arguments):
    path = Path(subprocess.sys.executable).with_name("oci-gpu")  # type: ignore[attr-defined]
    done = runtime.host.call(path, "--config", host.config, *arguments, check=False)
    return json.loads(done.stdout)


def test_where_mps_cannot_be_the_refusal_says_what_to_do(runtime, make_bundle, directory, host):
    old = SimulatedHost(Path(make(str(directory / "old"), gpus=1, driver_version="470.256.02").directory))
    said = runtime.run(make_bundle("cuda=1", config=old.config, env=SHARE)).complaint()
    assert said.startswith(
        "NVIDIA driver 470.256.02: cannot limit containers by MPS, which takes driver 495 or later; install a newer one"
    )
    bundle = make_bundle("cuda=1", config=host.config, env=(*SHARE[:2], "NVIDIA_DRIVER_CAPABILITIES=utility"), name="u")
    assert "without the driver capability compute; add compute to" in runtime.run(bundle).complaint()
    (host.driver_root / "usr/bin/nvidia-cuda-mps-server").unlink()
    bundle = make_bundle("cuda=1", config=host.config, env=SHARE, name="s")
    assert "this host has no nvidia-cuda-mps-server to limit" in runtime.run(bundle).complaint()
    configure(host, '[sharing]\nenforce = "none"\n')
    bundle = make_bundle("cuda=1", f"list={PIPE}", config=host.config, env=SHARE, name="n")
    seen = runtime.run(bundle).seen()
    assert seen == {"cuda=1": "81559 of 81559 MiB, 132, 0", f"list={PIPE}": "ENOENT"}, "reserved, and no more"


def test_a_container_with_a_user_namespace_is_refused(runtime, make_bundle, host):
    bundle = make_bundle("cuda=1", config=host.config, env=SHARE, user_namespace=True)
    said = runtime.run(bundle).complaint()
    assert "a container with a user namespace, whose programs MPS does not serve; start it without" in said


def test_a_mig_device_is_refused(runtime, make_bundle, directory):
    host = SimulatedHost(Path(make(str(directory / "mig"), gpus=1, mig=True).directory))
    bundle = make_bundle("cuda=1", config=host.config, env=(*SHARE, "NVIDIA_VISIBLE_DEVICES=0:0"))
    assert "MPS daemons are not started for GPUs in MIG mode; ask for a MIG device" in runtime.run(bundle).complaint()
