"""For tests of device access: what is granted, cgroups with a process in them, and work in a host's namespace."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from contextlib import contextmanager
from typing import Any

import pytest

from oci_gpu_hook.apply.device_access import bpf, runtime_program
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.oci.container import DeviceRule

GRANTED = ((195, 0), (195, 255), (511, 1))
NODES = {"/granted": (195, 0), "/control": (195, 255), "/cap": (511, 1), "/neighbour": (195, 1), "/null": (1, 3)}
FUSE: dict[str, Any] = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
NOTHING = (DeviceRule(allow=False, type="a", major=None, minor=None, access="rwm"),)


def inside(host, scenario) -> None:
    """Run the scenario in the host's mount namespace, in a process of its own; its failure is the test's."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            namespace = os.open(host.path("/").parent / "ns/mnt", os.O_RDONLY)
            syscalls.setns(namespace, syscalls.CLONE_NEWNS)
            os.chdir("/")
            scenario()
            status = 0
        except BaseException:  # noqa: BLE001  the parent tells it, whatever it is
            os.write(writer, traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        failure = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, failure


def code_of(found) -> list[bytes]:
    """Return the instructions of the programs attached to the process's cgroup."""
    return [bpf.instructions(bpf.open_program(number)) for number in bpf.attached(found.levels[-1])[1]]


def device_rule(rule: dict) -> DeviceRule:
    return DeviceRule(
        **{"type": "a", "major": None, "minor": None, **rule}  # as container.py reads them
    )


def like_runc(*rules: DeviceRule) -> bytes:
    """Return what runc makes of a bundle that denies all but what these rules allow."""
    return next(runtime_program.candidates((*NOTHING, *rules)))


def attach(directory: str, code: bytes, flags: int) -> None:
    """Attach a program as a runtime does."""
    fd = os.open(directory, os.O_RDONLY)
    attributes = b"".join(n.to_bytes(4, "little") for n in (fd, bpf.load(code), 6, flags))
    syscalls.bpf(bpf._PROG_ATTACH, attributes, len(attributes))


@contextmanager
def process_in(*components: str):
    """A process in a new cgroup of v2 below the root, e.g. "docker-1.scope", "container"."""
    made: list[str] = []
    for component in components:
        made.append(f"{made[-1] if made else '/sys/fs/cgroup'}/{component}")
        os.mkdir(made[-1])
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with open(f"{made[-1]}/cgroup.procs", "w") as file:
            file.write(str(child.pid))
        yield child.pid, made
    finally:
        child.kill()
        child.wait()
        for directory in reversed(made):
            os.rmdir(directory)


@contextmanager
def sysctl(name: str, value: str):
    path = f"/proc/sys/{name}"
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {name}")
    with open(path) as file:
        before = file.read()
    with open(path, "w") as file:
        file.write(value)
    try:
        yield
    finally:
        with open(path, "w") as file:
            file.write(before)
