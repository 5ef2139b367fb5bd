"""200 jobs through eight GPUs, some of them cancelled: no GPU is given to two at one time, and no job is lost.

OCI_GPU_SLURM_JOBS: how many (default 60; `make stress` takes 200).
"""

from __future__ import annotations

import itertools
import os
import random
import re
import time

import pytest

from tests.runtime.test_devices import CONTROL
from tests.slurm.test_slurm import answers, bundle, reached

JOBS = int(os.environ.get("OCI_GPU_SLURM_JOBS", "60"))
SEED = int(os.environ.get("OCI_GPU_STRESS_SEED", random.randrange(1 << 32)))
__all__ = ["bundle"]


@pytest.mark.timeout(1200)
def test_no_gpu_is_given_twice_and_no_job_is_lost(cluster, bundle, eight, capsys):
    chance = random.Random(SEED)
    one, out = bundle(), cluster.work / "out"
    nodes = " ".join(f"open={node}" for node in (*(gpu.node for gpu in eight.gpus()), *CONTROL))
    script = out / "storm.sh"
    script.write_text(
        f"#!/bin/sh\nread start rest < /proc/uptime\n/probe list=/dev {nodes}\n"
        'sleep 0.3\nread end rest < /proc/uptime\necho "held $start $end"\n'
    )
    started = time.monotonic()
    numbers = []
    for wanted in [1, 1, 1, 2] * (JOBS // 20):
        array = ("--array=0-4", f"--gres=gpu:{wanted}", f"--container={one}", "-o", f"{out}/storm-%A_%a")
        said = cluster.user("sbatch", *array, script).stdout
        numbers.append((int(said.split()[-1]), wanted))
    jobs = [(f"{number}_{index}", wanted) for number, wanted in numbers for index in range(5)]
    cancelled: set[str] = set()
    while left := len(cluster.jobs()):
        running = cluster("squeue", "-h", "-r", "-t", "R", "-o", "%i").split()
        if running and len(cancelled) < JOBS // 10 and chance.random() < 0.5:
            chosen = chance.choice(running)
            cluster("scancel", chosen, check=False)
            cancelled.add(chosen)
        assert time.monotonic() - started < 1100, f"{left} jobs are left (seed {SEED})\n{cluster.log()}"
        time.sleep(0.2)
    spans = []
    for job, wanted in jobs:
        text = (out / f"storm-{job}").read_text() if (out / f"storm-{job}").exists() else ""
        times = re.search(r"^held (\S+) (\S+)$", text, re.MULTILINE)
        if times is None:
            assert job in cancelled, f"{job} (seed {SEED})\n{text}"
            continue
        indices = reached(answers(text), eight)
        assert len(indices) == wanted, (job, text)
        spans += [(index, float(times[1]), float(times[2]), job) for index in indices]
    spans.sort()
    for before, after in itertools.pairwise(spans):
        assert before[0] != after[0] or before[2] <= after[1], (before, after, SEED)
    assert {index for index, *_ in spans} == set(range(8))
    assert len({job for *_, job in spans}) >= len(jobs) - len(cancelled)
    assert cluster.leases() == []
    with capsys.disabled():
        seconds = time.monotonic() - started
        print(f"\n{len(jobs)} jobs, {len(cancelled)} cancelled, {seconds:.0f} s")
