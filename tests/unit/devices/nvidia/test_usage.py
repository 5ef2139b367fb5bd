"""Metering GPUs in a child: what it tells of a simulated host, and that nothing it does can hurt."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices.nvidia import nvml, snapshot, usage
from oci_gpu_hook.devices.nvidia.model import Inventory, Library
from oci_gpu_hook.devices.use import DeviceUse, ProcessUse
from tests.unit.devices.nvidia import driver_trees as trees

MIB = 1 << 20
ME = os.getpid()


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    return make(str(tmp_path_factory.mktemp("host") / "host"), gpus=2, mig=True, device_nodes=False)


def test_what_a_simulated_host_says_while_it_is_asked_again_and_again(tmp_path):
    host = make(str(tmp_path / "host"), gpus=2, device_nodes=False)
    file = Path(host.directory, "usage")
    with usage.Meter(snapshot.load(configs.load(host.config))) as meter:
        idle = meter.read()
        file.write_text(
            f"gpu 1 utilization 73 41\ngpu 1 power 312500\ngpu 1 process {ME} compute 64 50 9\n"
            f"gpu 1 process {os.getppid()} graphics 32 0 0\n"
        )
        busy = meter.read()
        children = {child.pid for child in psutil.Process().children()}
        file.write_text("")
        assert meter.read() == idle
        assert {child.pid for child in psutil.Process().children()} == children
    first, second = host.gpus[0].uuid, host.gpus[1].uuid
    assert busy[first] == idle[first]
    assert busy[second] == DeviceUse(
        uuid=second,
        utilization=73,
        memory_utilization=41,
        memory_used=96 * MIB,
        memory_total=81559 * MIB,
        power=312.5,
        power_limit=700.0,
        temperature=35,
        processes=(
            ProcessUse(pid=ME, kind="compute", memory=64 * MIB, utilization=50),
            ProcessUse(pid=os.getppid(), kind="graphics", memory=32 * MIB, utilization=0),
        ),
        node=(195, 1),
    )


def test_mig_devices_have_memory_and_processes_and_no_utilization(host):
    Path(host.directory, "usage").write_text(f"gpu 0:2 process {ME} compute 64 50 9\n")
    with usage.Meter(snapshot.load(configs.load(host.config))) as meter:
        found = meter.read()
    part = host.gpus[0].mig_devices[2]
    assert found[part.uuid] == DeviceUse(
        uuid=part.uuid,
        memory_used=64 * MIB,
        memory_total=part.memory * MIB,
        processes=(ProcessUse(pid=ME, memory=64 * MIB),),
    )
    assert len(found) == 2 + 6


FAKE = """
class NVMLError(Exception): pass
def nvmlInit(): {init}
def nvmlDeviceGetCount(): {count}
"""


def meter_of(tmp_path, monkeypatch, init="pass", count="return 0"):
    modules = tmp_path / "modules"
    trees.write(f"{modules}/pynvml.py", FAKE.format(init=init, count=count).encode())
    library = trees.library(tmp_path / "libnvidia-ml.so.1", "libnvidia-ml.so.1", os.uname().machine)
    monkeypatch.setattr(nvml, "module_directories", lambda: [str(modules)])
    only = Library(host_path=library, name="x", soname="libnvidia-ml.so.1", links=(), capabilities=("utility",))
    return usage.Meter(Inventory(driver_version="580.1", gpus=(), libraries=(only,), files=(), nodes=()))


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"init": 'raise NVMLError("Driver/library version mismatch")'}, "Driver/library version mismatch"),
        ({"init": 'raise NVMLError("two\\\\nlines\\\\x1b[31m")'}, r"two\\nlines\\x1b\[31m"),
        ({"count": 'raise NVMLError("Unknown Error")'}, "it cannot count the GPUs: Unknown Error"),
        ({"count": "__import__('os').kill(__import__('os').getpid(), 11)"}, "it crashed"),
        ({"count": "__import__('os')._exit(0)"}, "it crashed"),
        ({"count": r"__import__('os').write(1, b'nonsense\\n')"}, "is not JSON"),
        ({"count": r"__import__('os').write(1, b'[]\\n')"}, "it answered something else"),
        ({"count": "__import__('time').sleep(60)"}, "it gave no answer within 1 s"),
        ({"count": "[__import__('os').write(1, b'x' * 65536) for _ in range(1000)]"}, "it gave no answer"),
    ],
)
def test_whatever_the_child_does_is_an_error(tmp_path, monkeypatch, fault, why):
    before = {child.pid for child in psutil.Process().children()}
    began = time.monotonic()
    with meter_of(tmp_path, monkeypatch, **fault) as meter:
        for _ in range(2):  # the second look is as good as the first
            with pytest.raises(DriverError, match=why) as caught:
                meter.read(seconds=1)
            assert str(caught.value).startswith("cannot ask NVML: ")
            assert str(caught.value).isprintable()
    assert time.monotonic() - began < 20
    assert {child.pid for child in psutil.Process().children()} <= before


def test_a_child_that_was_killed_between_two_looks_is_followed_by_another(host):
    before = psutil.Process().children()
    with usage.Meter(snapshot.load(configs.load(host.config))) as meter:
        meter.read()
        (child,) = [each for each in psutil.Process().children() if each not in before]
        subprocess.run(["kill", "-9", str(child.pid)], check=True)
        with pytest.raises(DriverError, match="it crashed"):
            meter.read()
        assert len(meter.read()) == 8
