"""A container with as many processes as it may have: attach and detach end in time, and stop it for a moment only."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.attack.test_attach import call, held, host  # noqa: F401  a fixture
from tests.runtime.conftest import runc_v2  # noqa: F401  a fixture

CROWD = int(os.environ.get("OCI_GPU_CROWD", "2000"))
SOURCE = r"""
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int count, char **words)
{
	for (long left = atol(words[1]); count == 2 && left > 0; left--) {
		int child = fork();
		if (child < 0)
			break;
		if (child == 0) {
			prctl(PR_SET_NAME, ") R 1 \n\x1b", 0, 0, 0);
			for (;;)
				pause();
		}
	}
	write(1, "there\n", 6);
	for (;;)
		pause();
}
"""


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A program that makes so many children, which wait, under a name that looks like a row of /proc/PID/stat."""
    directory = tmp_path_factory.mktemp("crowd")
    (directory / "crowd.c").write_text(SOURCE)
    subprocess.run(["musl-gcc", "-static", "-O1", "-o", directory / "crowd", directory / "crowd.c"], check=True)
    return directory / "crowd"


HURRIED = """
import sys
from oci_gpu_hook.base import limits
limits.PROCESSES_SECONDS = 0.005
from oci_gpu_hook.admin.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def events(host, pid: int) -> Path:  # noqa: F811
    """Return the file that says of a container's cgroup whether it is frozen."""
    rows = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    own = next(row.split(":", 2)[2] for row in rows if row.startswith("0:"))
    return host.path(f"/sys/fs/cgroup{own}/cgroup.events")


def wait_for(host, pid: int, count: int = CROWD) -> None:  # noqa: F811
    """Wait until the crowd is there."""
    give_up = time.monotonic() + 30
    while len(events(host, pid).with_name("cgroup.procs").read_text().split()) <= count:
        assert time.monotonic() < give_up
        time.sleep(0.05)


def cpu() -> float:
    """Return the CPU seconds of children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


class Standstill:
    """Measures for how long a container's cgroup is frozen."""

    def __init__(self, host, pid: int) -> None:  # noqa: F811
        self.file = events(host, pid)
        self.longest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        since = None
        while not self._over.is_set():
            frozen = "frozen 1" in self.file.read_text()
            since = (since or time.monotonic()) if frozen else None
            self.longest = max(self.longest, time.monotonic() - since if since else 0)
            time.sleep(0.002)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


def test_a_crowd_is_looked_at_in_time(runc_v2, make_bundle, host, crowd, tally):  # noqa: F811
    """Attach does not look at processes, detach stops them for no longer than its look takes."""
    bundle = make_bundle(args=("/crowd", str(CROWD)), gpus=None, config=host.config)
    (bundle.rootfs / "crowd").write_bytes(crowd.read_bytes())
    (bundle.rootfs / "crowd").chmod(0o755)
    with runc_v2.started(bundle) as container:
        wait_for(runc_v2.host, container.pid)
        for words in (("--all",), ("--all", "--force")):
            assert call(runc_v2, host, "attach", container.id, "--devices", "1").returncode == 0
            tally.count()
            began, used = time.monotonic(), cpu()
            with Standstill(runc_v2.host, container.pid) as standstill:
                done = call(runc_v2, host, "detach", container.id, *words)
            assert done.returncode == 0, done.stderr
            tally.count()
            lasted, took = time.monotonic() - began, cpu() - used
            print(f"{CROWD} processes: {lasted:.2f} s, {took:.2f} s of CPU, {standstill.longest:.2f} s of them frozen")
            assert took < 2 + CROWD / 1000
            assert standstill.longest <= lasted
        assert held(runc_v2, host) == []


def test_a_crowd_that_takes_too_long_keeps_what_it_has(runc_v2, make_bundle, host, crowd, tally):  # noqa: F811
    """It is refused in time, and runs on, with its GPU."""
    bundle = make_bundle(args=("/crowd", "200"), gpus="0", config=host.config)
    (bundle.rootfs / "crowd").write_bytes(crowd.read_bytes())
    (bundle.rootfs / "crowd").chmod(0o755)
    with runc_v2.started(bundle) as container:
        wait_for(runc_v2.host, container.pid, 200)
        done = runc_v2.host.call(
            *(sys.executable, "-c", HURRIED, "--config", host.config, "detach", container.id, "--all", "--force"),
            *("--runtime-root", runc_v2.state_dir),
            check=False,
        )
        tally.count()
        assert done.returncode == 1
        assert "OGH1311" in done.stderr
        assert len(held(runc_v2, host)) == 1
        assert "frozen 0" in events(runc_v2.host, container.pid).read_text()
        assert container.exec("/probe", "open=/dev/nvidia0").seen()["open=/dev/nvidia0"] == "ENXIO"
