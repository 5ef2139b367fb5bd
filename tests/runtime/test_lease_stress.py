"""Containers by the score on a host with eight GPUs, they and their hooks and runtimes killed at random.

OCI_GPU_STRESS_CONTAINERS: how many (default 60; `make stress` takes 200). OCI_GPU_STRESS_SEED: of the wishes, to have
them again; the times at which the machine runs things are its own.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime import rootfs as images
from tests.runtime import stress
from tests.runtime.fixtures import oci_gpu
from tests.runtime.host import contents, difference
from tests.runtime.simulated import SimulatedHost

CONTAINERS = int(os.environ.get("OCI_GPU_STRESS_CONTAINERS", "60"))
SEED = int(os.environ.get("OCI_GPU_STRESS_SEED", random.randrange(1 << 32)))
GPUS = 8
WORKERS = 8
BOTH = {"io.oci-gpu-hook.exclusive": "true", "io.oci-gpu-hook.count": str(GPUS)}


@pytest.fixture
def host(directory) -> SimulatedHost:
    make(str(directory / "host"), gpus=GPUS)
    return SimulatedHost(directory / "host")


@pytest.fixture
def runc(machine):
    names = [name for name in ("runc-v2", "runc-v1") if name in machine.runtimes]
    if not names:
        pytest.fail(f"runc does not work here: {machine.unavailable}")
    return machine.runtimes[names[0]]


class Watcher(threading.Thread):
    """Reads the record again and again while it is written."""

    def __init__(self, record) -> None:
        super().__init__(daemon=True)
        self.record = record
        self.looks = 0
        self.found: list[str] = []
        self.busiest = 0
        self.done = threading.Event()

    def run(self) -> None:
        last = b""
        while not self.done.wait(0.01):
            text = self.record.read_bytes() if self.record.exists() else b""
            if text and text != last:
                last = text
                self.looks += 1
                self.found += stress.contradictions(text)
                self.busiest = max(self.busiest, len(json.loads(text)["leases"]))


@pytest.mark.timeout(600)
def test_no_gpu_is_held_twice_or_lost(runc, machine, directory, hook, host, capsys):
    chance = random.Random(SEED)
    roots = [images.copy(machine.image("debian"), directory / f"rootfs{number}") for number in range(WORKERS)]
    before = [contents(root) for root in roots]
    mounts = own_mounts(runc, machine)
    scene = stress.Stress(runtime=runc, hook=hook, config=host.config, directory=directory)
    wishes = [stress.wish(chance, GPUS) for _ in range(CONTAINERS)]
    watcher = Watcher(host.state_dir / "leases.json")
    watcher.start()
    started = time.monotonic()
    with ThreadPoolExecutor(WORKERS * 2) as pool:  # two at a time on each rootfs
        for number, wish in enumerate(wishes):
            pool.submit(scene.live, f"stress-{os.getpid()}-{number}", roots[number % WORKERS], wish)
    seconds = time.monotonic() - started
    watcher.done.set()
    watcher.join()

    everything = stress.Wish(BOTH, exclusive=True, end="deleted", pause=0.0)
    scene.live(f"stress-{os.getpid()}-last", roots[0], everything)
    with capsys.disabled():
        print(figures(scene, watcher, seconds))

    assert scene.complaints == []
    assert stress.conflicts(scene.holds) == []
    assert watcher.found == []
    # No GPU is lost: one container is given all of them, at once and alone.
    assert scene.holds[-1].minors == {gpu.minor for gpu in host.gpus()}
    assert json.loads(oci_gpu("--config", host.config, "leases", "--json")) == []
    # And nothing of the others is left: no journal, nothing in a rootfs, no mount.
    assert [name for name in os.listdir(host.state_dir / "containers") if name.endswith(".json")] == []
    assert [difference(was, contents(root)) for was, root in zip(before, roots, strict=True)] == [[]] * WORKERS
    assert own_mounts(runc, machine) == mounts
    # The run was one: containers shared, excluded each other, waited or were refused, and were killed.
    assert len(scene.holds) > CONTAINERS // 6
    assert scene.counts.get("hooks killed", 0) > 0


def own_mounts(runc, machine) -> list[str]:
    return [line for line in runc.host.mounts() if str(machine.work) in line]


def figures(scene, watcher, seconds) -> str:
    grants = {minor: sum(minor in hold.minors for hold in scene.holds) for minor in range(GPUS)}
    alone = sum(hold.exclusive for hold in scene.holds)
    lines = [
        f"\n{CONTAINERS} containers on {GPUS} GPUs in {seconds:.1f} s, seed {SEED}",
        *(f"  {number:4}  {what}" for what, number in sorted(scene.counts.items())),
        f"  {alone:4}  held GPUs exclusively, {len(scene.holds) - alone} shared; {watcher.busiest} leases at the most",
        f"  {watcher.looks:4}  versions of the record looked at, contradictions: {len(watcher.found)}",
        f"  {len(stress.conflicts(scene.holds)):4}  GPUs held exclusively and by another at one time",
        f"        times granted, by GPU: {' '.join(map(str, grants.values()))}",
    ]
    return "\n".join(lines)


def hold(name, minors, exclusive, since, until) -> stress.Hold:
    return stress.Hold(name, frozenset(minors), exclusive, since, until)


def test_the_judge_sees_a_gpu_that_is_held_twice():
    alone = hold("alone", {0, 1}, True, 1.0, 3.0)
    assert stress.conflicts([hold("late", {1}, False, 2.0, 4.0), alone]) != []
    assert stress.conflicts([hold("after", {1}, True, 3.0, 4.0), alone]) == []
    assert stress.conflicts([hold("elsewhere", {2}, True, 2.0, 4.0), alone]) == []
    assert stress.conflicts([hold("a", {0}, False, 1.0, 3.0), hold("b", {0}, False, 2.0, 4.0)]) == []


def test_the_judge_sees_a_record_that_contradicts_itself():
    def record(*leases):
        return json.dumps({"leases": [{"exclusive": e, "devices": [{"gpu": g} for g in gpus]} for e, gpus in leases]})

    assert stress.contradictions(record((True, ["GPU-a"]), (False, ["GPU-b", "GPU-a"])).encode()) == ["GPU-a"]
    assert stress.contradictions(record((False, ["GPU-a"]), (False, ["GPU-a"]), (True, ["GPU-b"])).encode()) == []
