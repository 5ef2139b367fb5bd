"""What tests of parts of GPUs look at: the MPS daemons of a simulated host, and their files."""

from __future__ import annotations

import os
import time
from pathlib import Path

SHARE = ("OCI_GPU_MEMORY_LIMIT=8GiB", "OCI_GPU_CORES=50%", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
PIPE = "/tmp/nvidia-mps"


def daemons(host) -> list[int]:
    """Return the processes of MPS that run programs of this host."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            program = os.readlink(f"/proc/{name}/exe")
        except OSError:
            continue
        if program.startswith(f"{host.driver_root}/") and "nvidia-cuda-mps" in program:
            found.append(int(name))
    return sorted(found)


def watchers(host) -> list[int]:
    """Return the hook's processes on this host: between two starts, those that wait for containers to end."""
    config = os.fsencode(host.config)
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if config in words:
            found.append(int(name))
    return found


def shares(host) -> list[str]:
    """Return the names of the daemons' directories."""
    path = Path(host.directory) / "state/mps"
    return sorted(os.listdir(path)) if path.exists() else []


def settle(condition) -> None:
    """Wait until it holds."""
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def nothing_is_left(host) -> bool:
    """Tell whether the host has no daemon, none of its files, and no process that waits to end one."""
    return (daemons(host), shares(host), watchers(host)) == ([], [], [])
