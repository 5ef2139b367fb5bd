"""Asking NVML in a child: what it tells, and that nothing it does can hurt."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import psutil
import pytest

from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices.nvidia import nvml
from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, Library, MigDevice
from tests.unit.devices.nvidia import driver_trees as trees

FAKE = """
class NVMLError(Exception): pass
class Info:
    def __init__(self, **fields): self.__dict__.update(fields)
BUS = ["00000000:01:00.0", "00000000:02:00.0", "00000000:03:00.0"]
NVML_NVLINK_MAX_LINKS = 4
def nvmlInit(): {init}
def nvmlSystemGetCudaDriverVersion_v2(): return 13000
def nvmlDeviceGetCount(): return 3
def nvmlDeviceGetHandleByIndex(index):
    if index == 1: raise NVMLError("GPU is lost")
    return index
def nvmlDeviceGetPciInfo(gpu): return Info(busId=BUS[gpu].upper().encode())
def nvmlDeviceGetUUID(gpu): return f"GPU-of-nvml-{{gpu}}" if gpu < 10 else f"MIG-{{gpu}}"
def nvmlDeviceGetName(gpu): return b"NVIDIA A100" if gpu < 10 else "NVIDIA A100 MIG 1g.5gb"
def nvmlDeviceGetBrand(gpu): return 99 if gpu else 15
def nvmlDeviceGetCudaComputeCapability(gpu): return (8, 0)
def nvmlDeviceGetMemoryInfo(gpu): return Info(total=40 << 30)
def nvmlDeviceGetPersistenceMode(gpu): raise NVMLError("Not Supported")
def nvmlDeviceGetMigMode(gpu):
    if gpu: raise NVMLError("Not Supported")
    return [1, 1]
def nvmlDeviceGetMaxMigDeviceCount(gpu): return 3
def nvmlDeviceGetMigDeviceHandleByIndex(gpu, index):
    if index == 1: raise NVMLError("Not Found")
    return 10 + index
def nvmlDeviceGetAttributes_v2(mig): return Info(memorySizeMB=4864)
def nvmlDeviceGetGpuInstanceId(mig): return mig - 3
def nvmlDeviceGetComputeInstanceId(mig): return 0
def nvmlDeviceGetNvLinkState(gpu, link): return int(link < 3)
def nvmlDeviceGetNvLinkRemoteDeviceType(gpu, link): return 2 if link == 0 else 0
def nvmlDeviceGetNvLinkRemotePciInfo(gpu, link): return Info(busId=BUS[2 - gpu])
"""


class Fake:
    """A directory with a pynvml, and any library for it to be loaded after."""

    def __init__(self, directory):
        self._library = directory / "libnvidia-ml.so.1"
        self.directory = str(directory / "modules")

    def __call__(self, init="pass"):
        trees.write(f"{self.directory}/pynvml.py", FAKE.format(init=init).encode())
        return trees.library(self._library, "libnvidia-ml.so.1", os.uname().machine)


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


def gpu(index, **rest):
    return Gpu(**{"index": index, "uuid": "", "minor": index, "bus_id": f"00000000:0{index + 1}:00.0", **rest})


def inventory(library, *gpus):
    return Inventory(
        driver_version="580.95.05",
        gpus=gpus,
        libraries=(
            Library(host_path=library, name="x", soname="libnvidia-ml.so.1", links=(), capabilities=("utility",)),
        ),
        files=(),
        nodes=(),
    )


def test_what_nvml_tells(fake, monkeypatch):
    library = fake()
    monkeypatch.setattr(nvml, "module_directories", lambda: [fake.directory])
    mig = MigDevice(
        index=0, uuid="", gpu_instance=7, compute_instance=0, profile="", memory=0,
        gpu_instance_minor=66, compute_instance_minor=67,
    )  # fmt: skip
    found = nvml.complete(inventory(library, gpu(0, mig_devices=(mig,)), gpu(1, uuid="GPU-of-proc"), gpu(2, name="A")))
    assert (found.detailed, found.cuda_version) == (True, "13.0")
    assert found.warnings == ()
    first, lost, third = found.gpus
    assert (first.uuid, first.name, first.brand) == ("GPU-of-nvml-0", "NVIDIA A100", "geforcertx")
    assert (first.architecture, first.memory, first.persistence_mode) == ("8.0", 40 << 30, None)
    assert first.mig_enabled
    assert [(m.index, m.uuid, m.profile, m.gpu_instance) for m in first.mig_devices] == [
        (0, "MIG-10", "1g.5gb", 7),
        (2, "MIG-12", "1g.5gb", 9),
    ]
    assert [(m.gpu_instance_minor, m.compute_instance_minor) for m in first.mig_devices] == [(66, 67), (-1, -1)]
    assert first.mig_devices[0].memory == 4864 << 20
    assert lost == gpu(1, uuid="GPU-of-proc", fault="NVML says: GPU is lost")
    assert (third.brand, third.mig_enabled) == ("", False)
    assert first.links == ((2, 3),)  # two links straight, one by way of a switch
    assert third.links == ((0, 3),)


def test_what_nvml_tells_where_gpus_are_hidden(fake, monkeypatch):
    """In a device cgroup NVML counts the GPUs that are left, from 0 on; of the others that says nothing."""
    library = fake()
    monkeypatch.setattr(nvml, "module_directories", lambda: [fake.directory])
    gpus = [gpu(index, uuid=f"GPU-{index}", bus_id=bus_id) for index, bus_id in enumerate(BUSES)]
    found = nvml.complete(inventory(library, *gpus), frozenset({0, 4}))
    assert [each.index for each in found.gpus] == [0, 1, 2, 3, 4]
    assert (found.gpus[0], found.gpus[4]) == (gpus[0], gpus[4])
    assert [each.fault for each in found.gpus] == ["", "", "NVML says: GPU is lost", "", ""]
    assert found.gpus[1].links == ((3, 3),)
    assert nvml.complete(inventory(library, *gpus), frozenset({4})).gpus[0].fault.startswith("NVML does not count it")


# Those that the fake NVML counts, and one before and one after them.
BUSES = ("00000000:00:00.0", "00000000:01:00.0", "00000000:02:00.0", "00000000:03:00.0", "00000000:04:00.0")


@pytest.mark.parametrize(
    ("init", "why"),
    [
        ('raise NVMLError("Driver/library version mismatch")', "Driver/library version mismatch"),
        ('raise NVMLError("two\\\\nlines\\\\x1b[31m")', r"two\\nlines\\x1b\[31m"),
        ("raise ValueError", "ValueError"),
        ("__import__('os').kill(__import__('os').getpid(), 11)", r"crashed \(signal 11\)"),
        ("__import__('os')._exit(0)", "is empty"),
        ("__import__('os').write(1, b'nonsense')", "is not JSON"),
        ("__import__('os').write(1, b'[]') and __import__('os')._exit(0)", r"it answered \[\]"),
        ("__import__('time').sleep(60)", "it gave no answer within 1 s"),
        ("[__import__('os').write(1, bytes(65536)) for _ in range(1000)]", "it gave no answer"),
    ],
)
def test_whatever_the_child_does_is_an_error(fake, init, why):
    library = fake(init)
    before = children()
    begin = time.monotonic()
    with pytest.raises(DriverError, match=why) as caught:
        nvml.ask(library, [fake.directory], timeout=1)
    assert time.monotonic() - begin < 5
    assert str(caught.value).startswith("cannot ask NVML: ")
    assert str(caught.value).isprintable()
    assert children() <= before


def children():
    """Return the children of this process, those that ended and were not waited for too."""
    return {child.pid for child in psutil.Process().children()}


def test_a_child_that_closes_its_output_and_hangs(fake):
    with pytest.raises(DriverError, match="it gave no answer"):
        nvml.ask(fake("__import__('os').close(1) or __import__('time').sleep(60)"), [fake.directory], timeout=0.5)


def test_no_library(tmp_path):
    with pytest.raises(DriverError, match="cannot open shared object file"):
        nvml.ask(str(tmp_path / "libnvidia-ml.so.1"), [])
    empty = inventory("/x")
    with pytest.raises(DriverError, match="the driver has no libnvidia-ml"):
        nvml.complete(Inventory(**{**empty.__dict__, "libraries": ()}))


def test_no_module(fake):
    with pytest.raises(DriverError, match="No module named 'pynvml'"):
        nvml.ask(fake(), [])


def test_the_child_gets_no_environment_and_no_descriptors(fake, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "/evil.so")
    monkeypatch.setenv("PYTHONPATH", "/evil")
    assert nvml._run(["/usr/bin/env"], 5) == (b"", 0)
    with open("/etc/passwd"):
        listing, _ = nvml._run(["/bin/ls", "-l", "/proc/self/fd"], 5)
    assert b"-> /dev/null" in listing
    assert b"passwd" not in listing


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_the_library_of_the_driver_root_is_the_one_that_answers(tmp_path):
    """pynvml opens libnvidia-ml.so.1 by name; the one that was loaded by its path must be it."""
    text = b"int nvmlInitWithFlags(unsigned flags) { return 9; }\nchar *nvmlErrorString(int n) { return 0; }\n"
    source = trees.write(str(tmp_path / "nvml.c"), text)
    library = str(tmp_path / "elsewhere.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", library, source], check=True)
    with pytest.raises(DriverError, match="Driver Not Loaded"):  # NVML_ERROR_DRIVER_NOT_LOADED is 9
        nvml.ask(library, nvml.module_directories())
