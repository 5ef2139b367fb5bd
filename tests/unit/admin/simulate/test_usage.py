"""What the simulated NVML says of the use of its GPUs: what the file `usage` of the host says, while it is asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.admin.simulate.hosts import nvml, plain

MIB = 1 << 20


@pytest.fixture
def host(tmp_path):
    return plain(tmp_path / "host", gpus=2)


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["/bin/sleep", "100"])
    yield process
    process.kill()
    process.wait()


def write(host, *lines):
    Path(host.directory, "usage").write_text("".join(f"{line}\n" for line in lines))


FIGURES = """
h = [n.nvmlDeviceGetHandleByIndex(i) for i in range(2)]
rates = [n.nvmlDeviceGetUtilizationRates(d) for d in h]
print(json.dumps([[[r.gpu, r.memory] for r in rates], [n.nvmlDeviceGetPowerUsage(d) for d in h],
    [n.nvmlDeviceGetTemperature(d, 0) for d in h], [n.nvmlDeviceGetTemperatureV(d, 0) for d in h],
    [n.nvmlDeviceGetMemoryInfo(d).used for d in h],
    [n.nvmlDeviceGetMemoryInfo(d, n.nvmlMemory_v2).free for d in h]]))"""


def test_a_host_without_the_file_is_idle(host):
    total = 81559 * MIB
    expected = [[[0, 0], [0, 0]], [70000, 70000], [35, 35], [35, 35], [0, 0], [total, total]]
    assert nvml(host, FIGURES) == expected


def test_figures_of_a_gpu(host):
    write(
        host,
        *("# a comment", "gpu 1 utilization 73 41", "gpu 1 power 312500", "gpu 1 temperature 61", "gpu 1 memory 512"),
        *(f"gpu 1 process {os.getpid()} compute 2048 50 9", "nonsense", "gpu x", "gpu 7 power 1"),
    )
    rates, power, temperature, other_temperature, used, free = nvml(host, FIGURES)
    assert (rates, power) == ([[0, 0], [73, 41]], [70000, 312500])
    assert temperature == other_temperature == [35, 61]
    assert used == [0, 2560 * MIB]
    assert free == [81559 * MIB, (81559 - 2560) * MIB]


PROCESSES = """
def told(call, *arguments):
    try:
        return [[p.pid, getattr(p, "usedGpuMemory", None) or [p.smUtil, p.memUtil]] for p in call(*arguments)]
    except n.NVMLError as error:
        return type(error).__name__
h = n.nvmlDeviceGetHandleByIndex(0)
print(json.dumps([told(n.nvmlDeviceGetComputeRunningProcesses, h), told(n.nvmlDeviceGetGraphicsRunningProcesses, h),
    told(n.nvmlDeviceGetMPSComputeRunningProcesses, h), told(n.nvmlDeviceGetProcessUtilization, h, 0)]))"""


def test_processes_while_they_live(host, sleeper):
    me = os.getpid()
    write(
        host,
        *(f"gpu 0 process {me} compute 100 0 0", f"gpu 0 process {sleeper.pid} compute 200 30 12"),
        *(f"gpu 0 process {me} graphics 5 1 2", f"gpu 0 process {me} mps 6 0 0", f"gpu 1 process {me} compute 9 9 9"),
    )
    compute, graphics, mps, utilization = nvml(host, PROCESSES)
    assert compute == [[me, 100 * MIB], [sleeper.pid, 200 * MIB]]
    assert (graphics, mps) == ([[me, 5 * MIB]], [[me, 6 * MIB]])
    assert utilization == [[sleeper.pid, [30, 12]], [me, [1, 2]]]
    sleeper.kill()
    sleeper.wait()
    write(host, f"gpu 0 process {sleeper.pid} compute 200 30 12")
    assert nvml(host, PROCESSES) == [[], [], [], "NVMLError_NotFound"]


def test_a_mig_device_has_its_own(tmp_path):
    host = plain(tmp_path / "host", gpus=1, mig=True)
    me = os.getpid()
    write(host, f"gpu 0:1 process {me} compute 100 40 4", "gpu 0:1 memory 7", "gpu 0:9 process 1 compute 1 1 1")
    program = """
h = n.nvmlDeviceGetHandleByIndex(0)
rows = []
for d in [h, *[n.nvmlDeviceGetMigDeviceHandleByIndex(h, m) for m in range(3)]]:
    found = n.nvmlDeviceGetComputeRunningProcesses(d)
    instances = [[p.pid, p.gpuInstanceId, p.computeInstanceId] for p in found]
    rows.append([instances, n.nvmlDeviceGetMemoryInfo(d).used >> 20])
def error(call, *arguments):
    try:
        call(*arguments)
    except n.NVMLError as failure:
        return type(failure).__name__
rows += [error(n.nvmlDeviceGetUtilizationRates, h), error(n.nvmlDeviceGetProcessUtilization, h, 0)]
print(json.dumps(rows))"""
    instance = host.gpus[0].mig_devices[1].gpu_instance
    one = [[me, instance, 0]]
    assert nvml(host, program) == [
        *([one, 100], [[], 0], [one, 107], [[], 0]),
        *("NVMLError_NotSupported", "NVMLError_NotSupported"),
    ]


def test_an_xid_is_an_event_for_those_who_are_registered(host):
    write(host, "gpu 0 xid 13")
    program = f"""
def wait(milliseconds):
    try:
        e = n.nvmlEventSetWait_v2(s, milliseconds)
    except n.NVMLError_Timeout:
        return "timeout"
    return [n.nvmlDeviceGetIndex(e.device), e.eventType, e.eventData]
s = n.nvmlEventSetCreate()
for i in range(2):
    n.nvmlDeviceRegisterEvents(n.nvmlDeviceGetHandleByIndex(i), n.nvmlEventTypeXidCriticalError, s)
seen = [wait(60)]
with open({host.directory + "/usage"!r}, "a") as file:
    file.write("gpu 1 xid 48\\ngpu 0 xid 31\\ngpu 0 xid 31\\n")
seen += [wait(1000) for _ in range(3)] + [wait(60)]
print(json.dumps(seen))"""
    assert nvml(host, program) == ["timeout", [0, 8, 31], [0, 8, 31], [1, 8, 48], "timeout"]
