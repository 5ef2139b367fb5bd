"""Fifty tasks through two GPUs, with kills among them: no GPU is given twice, none is lost."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import pytest

from tests.mesos.conftest import Mesos, Running
from tests.mesos.test_restart import assert_all_is_free

TASKS = 50
SEED = 20
# What a task says: when it has begun, what it was given, and, unless it is killed, when it ends.
COMMAND = "cat /proc/uptime; ls -d /dev/nvidia[0-9]; echo ready; sleep {}; cat /proc/uptime"
WAYS = ("by itself", "its command is killed", "its executor is killed", "destroyed", "destroyed, whatever it does")


@dataclass
class Held:
    """A GPU that a task had at least from then to then, in seconds of the host's uptime."""

    gpu: str
    since: float
    until: float


def uptime() -> float:
    with open("/proc/uptime") as file:
        return float(file.read().split()[0])


def held_by(running: Running, ended: float) -> Held | None:
    """Return what a task had, None where it never came to run. ended: a moment before its end, if it does not tell."""
    lines = running.stdout().splitlines()
    if "ready" not in lines:
        return None
    first, *given, _ready = lines[: lines.index("ready") + 1]
    (gpu,) = given
    last = lines[-1] if lines[-1] != "ready" else str(ended)
    return Held(gpu, float(first.split()[0]), float(last.split()[0]))


def run(mesos: Mesos, way: str, seconds: float, **options) -> Held | None:
    """Run a task to its end of that kind, so many seconds after it began."""
    sleeps = f"{seconds:.2f}" if way == WAYS[0] else "600"
    running = mesos.start(command={"shell": True, "value": COMMAND.format(sleeps)}, **options)
    if way == WAYS[0]:
        (ended,) = running.end(timeout=300)
        assert ended.status == 0, ended
        return held_by(running, 0)
    if way != WAYS[-1]:
        running.wait_for("ready", seconds=300)
    time.sleep(seconds)
    killed = uptime()
    if way in WAYS[1:3]:
        word = "600" if way == WAYS[1] else "mesos-executor"
        for pid, argv in running.processes().items():
            if argv[-1:] == [word] or any(each.endswith(f"/{word}") for each in argv[:3]):
                os.kill(pid, signal.SIGKILL)
        running.end()
    else:
        running.kill()
    return held_by(running, killed)


def run_all(mesos: Mesos, at_once: int, **options) -> list[Held]:
    """Run them all, so many at once, each in one of the WAYS."""
    mesos.image()  # made once, before they all want it
    chance = random.Random(SEED)
    ways = [WAYS[number % len(WAYS)] for number in range(TASKS)]
    chance.shuffle(ways)
    lengths = [chance.random() for _ in ways]
    with ThreadPoolExecutor(at_once) as threads:
        found = list(threads.map(lambda planned: run(mesos, *planned, **options), zip(ways, lengths, strict=True)))
    return [held for held in found if held]


def assert_none_was_given_twice(found: list[Held]) -> None:
    assert len(found) >= TASKS * 4 / 5  # all but those that were destroyed before they ran
    had = Counter(held.gpu for held in found)
    assert sorted(had) == ["/dev/nvidia0", "/dev/nvidia1"]
    for gpu in had:
        of_gpu = sorted((held for held in found if held.gpu == gpu), key=lambda held: held.since)
        for earlier, later in pairwise(of_gpu):
            assert earlier.until <= later.since + 0.01, (earlier, later)  # /proc/uptime has hundredths


@pytest.mark.timeout(900)
def test_tasks_that_mesos_accounts(mesos, simulated):
    """Two at once, as a master offers two GPUs: the next is launched when the one before has hardly ended."""
    assert_none_was_given_twice(run_all(mesos, 2, gpus=1))
    assert_all_is_free(mesos, simulated)


@pytest.mark.timeout(900)
def test_tasks_that_ask_for_more_than_there_is(mesos, simulated):
    """Eight at once, of which six wait."""
    environment = {"OCI_GPU_COUNT": "1", "OCI_GPU_EXCLUSIVE": "true", "OCI_GPU_WAIT": "300"}
    assert_none_was_given_twice(run_all(mesos, 8, environment=environment, pid_namespace=True))
    assert_all_is_free(mesos, simulated)
