"""Containers that wait for a GPU hold workers of the resident; others are served beside them, and each has its turn."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import ExitStack

from oci_gpu_hook.base import limits
from tests.attack.sandbox import Outcome
from tests.attack.served import begun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attack.sandbox import Sandbox

ALONE = ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=utility", "OCI_GPU_EXCLUSIVE=1")
WAITS = (*ALONE, "OCI_GPU_WAIT=10m")
NO_GPU = ("NVIDIA_VISIBLE_DEVICES=none", "NVIDIA_DRIVER_CAPABILITIES=utility")
SOME = 12  # more than the usual number of workers where there are few processors
TURNS = 3
PATIENCE = 240  # seconds


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_waiters_keep_nobody_from_being_served(served, enter, rootfs_named, simulated, tally):
    """Each has a worker, up to 64; then Python is started, at once. They get the GPU one after the other."""
    of_waiters, of_another = rootfs_named("waiters"), rootfs_named("another")

    def attach_another() -> float:
        began = time.monotonic()
        with enter(of_another, env=NO_GPU, hook=served.front) as another:
            assert another.attach() == Outcome("")
            took = time.monotonic() - began
        assert another.release() == Outcome("")
        tally.count()
        return took

    with ExitStack() as running:
        holder = running.enter_context(enter(rootfs_named("holder"), env=ALONE, hook=served.front))
        assert holder.attach() == Outcome("")
        waiting: list[Sandbox] = []
        fronts: list[subprocess.Popen[bytes]] = []

        def wait(number: int) -> None:
            while len(waiting) < number:  # each writes the bundle that they share
                waiting.append(running.enter_context(enter(of_waiters, env=WAITS, hook=served.front)))
            fronts.extend(begun(each) for each in waiting[len(fronts) :])
            until(lambda: len(json.loads((simulated.state_dir / "leases.json").read_text())["queue"]) == number)

        wait(SOME)
        before = served.pythons
        assert min(attach_another() for _ in range(3)) < 2
        assert served.pythons < before + 3  # on a busy machine a front may have waited for its 50 ms
        wait(limits.RESIDENT_WORKERS + 1)
        assert min(attach_another() for _ in range(3)) < 2
        assert len(served.running.workers()) <= limits.RESIDENT_WORKERS
        assert [front.poll() for front in fronts] == [None] * len(fronts)

        holder.__exit__()
        assert holder.release() == Outcome("")
        for _ in range(TURNS):
            until(lambda: any(front.poll() is not None for front in fronts))
            (turn,) = [number for number, front in enumerate(fronts) if front.poll() is not None]
            assert fronts.pop(turn).returncode == 0
            first = waiting.pop(turn)
            assert first.id in (simulated.state_dir / "leases.json").read_text()
            first.__exit__()
            assert first.release() == Outcome("")
        for front in fronts:
            front.kill()
            front.wait()
        until(lambda: len(served.running.workers()) < SOME)
    assert served.serves()
