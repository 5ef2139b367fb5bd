"""Device nodes in numbers: as many as a container may ask for cost little, more are refused in words."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.apply.device_access import bpf, cgroup, device_program
from oci_gpu_hook.base import limits
from tests.runtime import rootfs as images
from tests.runtime.device_cgroups import NOTHING, attach, code_of, inside, like_runc, process_in

CHANNELS = "/dev/nvidia-caps-imex-channels"
MOST = 2048
SECONDS = 4.0  # of CPU, of the hook from start to end; it takes about one


def cpu_seconds() -> float:
    """Return what this process and its children have used so far."""
    return sum(os.times()[:4])


def asking(numbers: range) -> tuple[str, ...]:
    listed = ",".join(map(str, numbers))
    return ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=compute", f"NVIDIA_IMEX_CHANNELS={listed}")


def test_all_channels_of_a_driver(runtime, make_bundle, simulated, tally):
    last = f"{CHANNELS}/channel{MOST - 1}"
    bundle = make_bundle(f"open={last}", "open=/dev/nvidia1", env=asking(range(MOST)))
    seen = runtime.run(bundle).seen()
    tally.count()
    assert seen == {f"open={last}": "ENXIO", "open=/dev/nvidia1": "ENOENT"}


def test_what_all_channels_cost(enter, machine, runc, simulated, directory, tally):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    with enter(rootfs, env=asking(range(MOST))) as sandbox:
        started = cpu_seconds()
        assert sandbox.attach().refused == ""
        assert cpu_seconds() - started < SECONDS
        tally.count()
        oci_gpu = [Path(sys.executable).with_name("oci-gpu"), "--config", simulated.config]
        started = cpu_seconds()
        found = runc.host.call(*oci_gpu, "verify", sandbox.id, "--json", check=False).stdout
        assert json.loads(found)[0]["findings"] == []
        assert cpu_seconds() - started < SECONDS
        assert sandbox.release().refused == ""


TOO_LONG = f"lists more than {limits.LISTED} items"
TOO_MANY = f"names more than {MOST} IMEX channels"


@pytest.mark.parametrize(
    ("count", "why"),
    [(MOST + 1, TOO_MANY), (limits.LISTED, TOO_MANY), (limits.LISTED + 1, TOO_LONG), (20_000, TOO_LONG)],
)
def test_more_channels_than_a_driver_has(enter, machine, directory, tally, count, why):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    with enter(rootfs, env=asking(range(count))) as sandbox:
        started = cpu_seconds()
        outcome = sandbox.attach()
        assert cpu_seconds() - started < SECONDS
        tally.count(outcome)
        assert why in outcome.refused


@pytest.mark.parametrize("count", [8191, 8192, 20_000])
def test_a_device_program_holds_any_number_of_nodes(machine, count, tally):
    """Eight thousand are as many as one jump can pass over."""
    nodes = [(195 + number // 4096, number % 4096) for number in range(count)]
    odd, even = nodes[1::2], nodes[::2]

    def scenario():
        with process_in(f"many-{os.getpid()}") as (pid, made):
            attach(made[-1], like_runc(), bpf.ALLOW_MULTI)
            found = cgroup.find(pid)
            started = cpu_seconds()
            cgroup.allow(found, odd, NOTHING).close()
            cgroup.allow(found, nodes, NOTHING).close()
            assert cgroup.allow(found, even, NOTHING).changes == []
            assert cgroup.refused(found, (*nodes, (195, 5000), (8, 0))) == ((195, 5000), (8, 0))
            assert cpu_seconds() - started < SECONDS
            (code,) = code_of(found)
            assert device_program.split(code) == (tuple(nodes), like_runc())

    inside(machine.runtimes["runc-v2"].host, scenario)
    tally.count()
