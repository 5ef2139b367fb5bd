"""`oci-gpu attach` killed between the lease and the journal: whoever comes next gives the lease back, and no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.attack.test_attach import call, held
from tests.runtime.simulated import SimulatedHost

PATIENCE = 15
WAITS = {"io.oci-gpu-hook.wait": f"{PATIENCE}s"}
SLEEP = ("/bin/sleep", "100")
UNTIL_THE_JOURNAL = """
import os, signal, sys
from oci_gpu_hook.lifecycle import apart_from_container
done = apart_from_container.done
def stopped(*words):
    os.kill(os.getpid(), signal.{signal})
    return done(*words)
apart_from_container.done = stopped
from oci_gpu_hook.admin.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def host(directory):
    """A host of the test's own, with one GPU."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=1).directory))


def attaching(runtime, host, container, number: signal.Signals) -> subprocess.Popen[str]:
    """Start an attachment that gets a signal once it has its lease."""
    script = UNTIL_THE_JOURNAL.format(signal=number.name)
    words = ("--config", host.config, "attach", container.id, "--count", "1", "--exclusive")
    command = (sys.executable, "-c", script, *words, "--runtime-root", runtime.state_dir)
    return subprocess.Popen(runtime.host.command(*map(str, command)), stdout=subprocess.PIPE, text=True)


def killed(runtime, host, container, tally) -> None:
    """Have an attachment killed that has its lease, and nothing else."""
    assert attaching(runtime, host, container, signal.SIGKILL).wait(30) == -signal.SIGKILL
    assert len(held(runtime, host)) == 1
    assert not list((host.state_dir / "containers").glob("*.json"))
    tally.count()


def test_a_lease_and_nothing_else_is_given_back_by_whoever_comes_next(runc, make_bundle, host, tally):
    with (
        runc.started(make_bundle(args=SLEEP, gpus=None, config=host.config)) as one,
        runc.started(make_bundle(args=SLEEP, gpus=None, config=host.config, name="other")) as other,
    ):
        killed(runc, host, one, tally)
        said = [json.loads(line) for line in call(runc, host, "watch", "--once").stdout.splitlines()]
        assert [(each["event"], each["container"]) for each in said] == [("lease given back", one.id)]
        assert held(runc, host) == []
        killed(runc, host, one, tally)
        done = call(runc, host, "repair", one.id)
        assert (done.returncode, done.stderr) == (0, "")
        assert "the attachment had been interrupted" in done.stdout
        assert held(runc, host) == []
        killed(runc, host, one, tally)
        assert "the attachment had been interrupted" in call(runc, host, "repair", "--all").stdout
        assert held(runc, host) == []
        killed(runc, host, one, tally)
        done = call(runc, host, "attach", other.id, "--devices", "0", "--exclusive")
        assert done.returncode == 0, done.stderr
        assert call(runc, host, "detach", other.id, "--all").returncode == 0
        killed(runc, host, one, tally)
        own = ("NVIDIA_VISIBLE_DEVICES=0", "OCI_GPU_EXCLUSIVE=1")
        seen = runc.run(make_bundle("open=/dev/nvidia0", env=own, config=host.config, name="third")).seen()
        assert seen["open=/dev/nvidia0"] == "ENXIO"
        assert held(runc, host) == []
        killed(runc, host, one, tally)
        began = time.monotonic()
        waits = make_bundle("open=/dev/nvidia0", env=own, config=host.config, name="waits", annotations=WAITS)
        assert runc.run(waits).seen()["open=/dev/nvidia0"] == "ENXIO"
        assert time.monotonic() - began < PATIENCE, "it has waited for a lease that nobody uses"


def test_an_attachment_that_is_under_way_keeps_its_lease(runc, make_bundle, host, tally):
    with (
        runc.started(make_bundle(args=SLEEP, gpus=None, config=host.config)) as one,
        runc.started(make_bundle(args=SLEEP, gpus=None, config=host.config, name="other")) as other,
    ):
        process = attaching(runc, host, one, signal.SIGSTOP)
        try:
            while not held(runc, host):
                assert process.poll() is None
            for words in (("watch", "--once"), ("repair", "--all")):
                assert "given back" not in call(runc, host, *words).stdout
            assert "OGH1301" in call(runc, host, "attach", other.id, "--devices", "0").stderr
            tally.count()
            assert len(held(runc, host)) == 1
        finally:
            process.send_signal(signal.SIGCONT)
        assert process.wait(30) == 0
        assert one.exec("/probe", "open=/dev/nvidia0").seen()["open=/dev/nvidia0"] == "ENXIO"


def test_on_a_host_that_has_no_process_left_to_start(runc, make_bundle, host, tally):
    """Attach takes back what it has done; detach has taken the GPU, and repair removes what it has left."""
    group = Path(f"/sys/fs/cgroup/pids/oci-gpu-hook-few-{os.getpid()}")
    if not group.parent.is_dir():
        pytest.skip("no pids cgroup of version 1")
    group.mkdir()
    (group / "pids.max").write_text("1")
    oci_gpu = f"{Path(sys.executable).with_name('oci-gpu')} --config {host.config}"
    try:
        with runc.started(make_bundle(args=SLEEP, gpus=None, config=host.config)) as one:
            for number, words in enumerate((f"attach {one.id} --count 1", f"detach {one.id} --all")):
                line = f"echo $$ >{group}/cgroup.procs; exec {oci_gpu} {words} --runtime-root {runc.state_dir}"
                done = runc.host.call("sh", "-c", line, check=False)
                tally.count()
                assert done.returncode == 1
                assert "OGH1515" in done.stderr
                assert held(runc, host) == []
                assert one.exec("/probe", "open=/dev/nvidia0").seen()["open=/dev/nvidia0"] == (
                    "EPERM" if number else "ENOENT"
                )
                assert len(list((host.state_dir / "containers").glob("*.json"))) == number
                if not number:
                    assert call(runc, host, "attach", one.id, "--count", "1").returncode == 0
            assert call(runc, host, "repair", one.id).returncode == 0
            assert one.exec("/probe", "open=/dev/nvidia0").seen()["open=/dev/nvidia0"] == "ENOENT"
            assert not list((host.state_dir / "containers").glob("*.json"))
    finally:
        group.rmdir()
