"""A wait covers what is not there yet: at boot the driver, its nodes and GPUs come after the engine."""

from __future__ import annotations

import math
import os
import re
import shutil
import threading
import time

import pytest

LATE = 1.5  # seconds


def driver(host):
    return [host.proc, host.dev / "nvidia0", host.dev / "nvidia1", host.dev / "nvidiactl", host.dev / "nvidia-uvm"]


def driver_files(host):
    return [host.driver_root]


def node_of_a_gpu(host):
    return [host.dev / "nvidia1"]


def control_node(host):
    return [host.dev / "nvidiactl"]


def node_of_managed_memory(host):
    return [host.dev / "nvidia-uvm"]


def gpu(host):
    second = host.gpus()[1]
    return [host.proc / "gpus" / second.bus_id]


def all_gpus(host):
    return [host.proc / "gpus"]


COMING = [driver, driver_files, node_of_a_gpu, control_node, node_of_managed_memory, gpu, all_gpus]


@pytest.fixture
def host(simulated, directory):
    return simulated.copy(directory / "host")


class Away:
    """Things of a host, moved aside for a `with` block or until they come back by themselves."""

    def __init__(self, host, paths, seconds=None):
        self.moved = [(path, host.directory / f"away-{path.name}") for path in paths]
        self.timer = threading.Timer(seconds, self.come) if seconds else None

    def __enter__(self):
        for path, aside in self.moved:
            os.rename(path, aside)
        if self.timer:
            self.timer.start()
        return self

    def come(self):
        for path, aside in reversed(self.moved):
            os.rename(aside, path)

    def __exit__(self, *_):
        if self.timer:
            self.timer.join()


@pytest.mark.parametrize("what", COMING, ids=lambda what: what.__name__)
@pytest.mark.parametrize("ask", ["count", "uuid"])
def test_what_comes_late_is_waited_for(runtime, make_bundle, host, what, ask):
    second = host.gpus()[1]
    asked = ("OCI_GPU_COUNT=2",) if ask == "count" else (f"NVIDIA_VISIBLE_DEVICES={second.uuid}",)
    bundle = make_bundle("list=/dev", env=(*asked, "OCI_GPU_WAIT=30s"), config=host.config)
    begin = time.monotonic()
    with Away(host, what(host), LATE):
        seen = runtime.run(bundle).seen()
    assert LATE <= time.monotonic() - begin < 25
    nodes = {"nvidia1", "nvidiactl", "nvidia-uvm"} | ({"nvidia0"} if ask == "count" else set())
    assert nodes <= set(seen["list=/dev"])


@pytest.mark.parametrize("what", [driver, node_of_a_gpu, gpu], ids=lambda what: what.__name__)
def test_what_never_comes_is_told_with_how_long_it_was_waited(runtime, make_bundle, host, what):
    bundle = make_bundle("list=/dev", env=("OCI_GPU_COUNT=2", "OCI_GPU_WAIT=1"), config=host.config)
    begin = time.monotonic()
    with Away(host, what(host)):
        complaint = runtime.run(bundle).complaint()
    took = time.monotonic() - begin
    assert 1 <= took < 15
    awaited = {driver: "the driver", node_of_a_gpu: "/dev/nvidia1", gpu: "1 more of 2 devices"}[what]
    said = re.search(f"; waited ([0-9]+) s for {awaited}; ", complaint)
    assert said, complaint
    assert 1 <= int(said[1]) <= math.ceil(took)  # it looks again when a second is over, on a busy machine later


@pytest.mark.parametrize(
    ("asked", "words"),
    [("OCI_GPU_COUNT=3", "this host has 2"), ("NVIDIA_VISIBLE_DEVICES=7", "unknown device '7'")],
)
def test_what_the_bus_does_not_have_is_not_waited_for(runtime, make_bundle, host, asked, words):
    bundle = make_bundle("list=/dev", env=(asked, "OCI_GPU_WAIT=30s"), config=host.config)
    begin = time.monotonic()
    complaint = runtime.run(bundle).complaint()
    assert time.monotonic() - begin < 15
    assert words in complaint
    assert "waited" not in complaint


def test_a_gpu_of_another_driver_is_not_waited_for(runtime, make_bundle, host):
    """It is passed through to a virtual machine, say, and `all` means the others."""
    second = host.gpus()[1]
    shutil.rmtree(host.proc / "gpus" / second.bus_id)
    device = os.path.realpath(host.directory / "sys/bus/pci/devices" / second.bus_id)
    os.unlink(f"{device}/driver")
    os.symlink("../../bus/pci/drivers/vfio-pci", f"{device}/driver")
    for asked in ("OCI_GPU_COUNT=2", "NVIDIA_VISIBLE_DEVICES=all"):
        bundle = make_bundle("list=/dev", env=(asked, "OCI_GPU_WAIT=30s"), config=host.config, name=asked[:4])
        begin = time.monotonic()
        done = runtime.run(bundle)
        assert time.monotonic() - begin < 15
        assert (done.status == 0) == (asked == "NVIDIA_VISIBLE_DEVICES=all")


def test_who_does_not_ask_to_wait_does_not(runtime, make_bundle, host):
    bundle = make_bundle("list=/dev", gpus="0", config=host.config, name="plain")
    with Away(host, driver(host)):
        complaint = runtime.run(bundle).complaint()
    assert complaint.startswith("no NVIDIA driver is loaded: ")
    assert "waited" not in complaint
