"""Many processes at once, some killed at random: no GPU is shared or lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

from oci_gpu_hook.allocation import release
from tests.unit.allocation.leasing import bundle, grant, host, kept_aside, request


def hammer(seed, config, size):
    """Be a host's worth of hooks: grant to a fresh process, check, end it in one of three ways, again and again."""
    rng = random.Random(seed)
    for turn in range(25):
        process = subprocess.Popen(["/bin/sleep", "60"])
        name = f"{seed}-{turn}"
        try:
            granted = grant(
                request(count=rng.randint(1, 2), exclusive=True, wait=20), bundle(name, process.pid), config, host(size)
            )
            for index in granted:  # an exclusive GPU is a file that only one may make
                os.close(os.open(f"{config.state_dir}.gpu{index}", os.O_CREAT | os.O_EXCL, 0o600))
            time.sleep(rng.random() * 0.005)
            for index in granted:
                os.unlink(f"{config.state_dir}.gpu{index}")
        finally:
            process.kill()
            process.wait()
        if rng.random() < 0.5:
            release.release(name, config)


def test_processes_that_die_at_random_never_share_an_exclusive_gpu_nor_lose_one(config):
    """Eight processes of hooks; two more are killed by SIGKILL at random places of the story, over and over."""
    size = 4
    workers = []
    for seed in range(8):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                hammer(seed, config, size)
                status = 0
            finally:
                os._exit(status)
        workers.append(pid)
    rng = random.Random(0)
    killed = 0
    deadline = time.monotonic() + 60
    while workers and time.monotonic() < deadline:
        victim = os.fork()
        if not victim:
            try:
                while True:
                    grant(
                        request(count=1, exclusive=True, wait=5), bundle(f"victim{os.getpid()}", 0), config, host(size)
                    )
                    release.release_by_hand(f"victim{os.getpid()}", config, force=True)
            finally:
                os._exit(1)
        time.sleep(rng.random() * 0.02)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        killed += 1
        for worker in list(workers):
            done, status = os.waitpid(worker, os.WNOHANG)
            if done:
                workers.remove(worker)
                assert status == 0
    assert not workers
    assert killed > 10
    assert kept_aside(config) == []
    assert grant(request(count=size, exclusive=True), bundle("all", os.getpid()), config, host(size)) == list(
        range(size)
    )
