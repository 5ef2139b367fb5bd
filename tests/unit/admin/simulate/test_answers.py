"""What programs hear from a simulated driver: NVML, CUDA and nvidia-smi answer as a real one's do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from elftools.elf.elffile import ELFFile

from tests.unit.admin.simulate.hosts import nvml, plain


class TestNvml:
    def test_system(self, eight):
        program = (
            "print(json.dumps([n.nvmlSystemGetDriverVersion(), n.nvmlSystemGetCudaDriverVersion_v2(),"
            " n.nvmlSystemGetNVMLVersion(), n.nvmlDeviceGetCount()]))"
        )
        assert nvml(eight, program) == ["580.159.04", 13000, "13.580.159.04", 8]

    def test_every_gpu_is_what_the_host_says(self, eight):
        program = """
rows = []
for i in range(n.nvmlDeviceGetCount()):
    h = n.nvmlDeviceGetHandleByIndex(i)
    pci = n.nvmlDeviceGetPciInfo(h)
    rows.append([n.nvmlDeviceGetUUID(h), n.nvmlDeviceGetMinorNumber(h), pci.busId, n.nvmlDeviceGetName(h),
        n.nvmlDeviceGetBrand(h) == n.NVML_BRAND_NVIDIA, n.nvmlDeviceGetCudaComputeCapability(h),
        n.nvmlDeviceGetMemoryInfo(h).total, n.nvmlDeviceGetMemoryInfo(h, n.nvmlMemory_v2).total,
        list(n.nvmlDeviceGetMemoryAffinity(h, 1, 0)), n.nvmlDeviceGetMigMode(h), n.nvmlDeviceGetIndex(h),
        n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(h))),
        n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByPciBusId(pci.busId.encode()))])
print(json.dumps(rows))"""
        memory = 81559 * 1024 * 1024
        assert nvml(eight, program) == [
            [
                *(gpu.uuid, gpu.minor, f"0000{gpu.bus_id}".upper(), "NVIDIA H100 80GB HBM3", True, [9, 0]),
                *(memory, memory, [1 << gpu.numa_node], [0, 0], gpu.index, gpu.uuid, gpu.uuid),
            ]
            for gpu in eight.gpus
        ]

    def test_links_and_topology(self, eight):
        program = """
h = [n.nvmlDeviceGetHandleByIndex(i) for i in range(8)]
print(json.dumps([[n.nvmlDeviceGetTopologyCommonAncestor(h[0], other) for other in h],
    [n.nvmlDeviceGetNvLinkState(h[0], link) for link in range(18)],
    n.nvmlDeviceGetNvLinkRemotePciInfo(h[0], 0).busId, n.nvmlDeviceGetPciInfo(h[1]).busId]))"""
        levels, links, remote, second = nvml(eight, program)
        assert levels == [0, 10, 40, 40, 50, 50, 50, 50]
        assert links == [1] * 18
        assert remote == second

    def test_mig_devices(self, mig):
        program = """
rows = []
for i in range(2):
    h = n.nvmlDeviceGetHandleByIndex(i)
    for m in range(n.nvmlDeviceGetMaxMigDeviceCount(h)):
        try:
            d = n.nvmlDeviceGetMigDeviceHandleByIndex(h, m)
        except n.NVMLError_NotFound:
            break
        a = n.nvmlDeviceGetAttributes(d)
        rows.append([i, n.nvmlDeviceGetUUID(d), n.nvmlDeviceGetGpuInstanceId(d), n.nvmlDeviceGetComputeInstanceId(d),
            a.gpuInstanceSliceCount, a.memorySizeMB, n.nvmlDeviceIsMigDeviceHandle(d).value,
            n.nvmlDeviceIsMigDeviceHandle(h).value,
            n.nvmlDeviceGetUUID(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(d)), n.nvmlDeviceGetName(d),
            n.nvmlDeviceGetMigMode(h), n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(d)))])
print(json.dumps(rows))"""
        assert nvml(mig, program) == [
            [
                *(gpu.index, device.uuid, device.gpu_instance, 0, device.profile.compute_slices, device.memory, 1, 0),
                *(gpu.uuid, f"NVIDIA H100 80GB HBM3 MIG {device.profile.name}", [1, 1], device.uuid),
            ]
            for gpu in mig.gpus
            for device in gpu.mig_devices
        ]

    def test_wrong_questions_are_refused(self, eight):
        program = """
def error(call, *arguments):
    try:
        return repr(call(*arguments))
    except n.NVMLError as e:
        return type(e).__name__
h = n.nvmlDeviceGetHandleByIndex(0)
answers = [error(n.nvmlDeviceGetHandleByIndex, 8), error(n.nvmlDeviceGetHandleByUUID, b"GPU-x"),
    error(n.nvmlDeviceGetGpuInstanceId, h), error(n.nvmlDeviceGetMigDeviceHandleByIndex, h, 0),
    error(n.nvmlDeviceGetNvLinkState, h, 99), error(n.nvmlDeviceGetFanSpeed, h)]
n.nvmlShutdown()
print(json.dumps([*answers, error(n.nvmlDeviceGetCount)]))"""
        assert nvml(eight, program) == [
            "NVMLError_InvalidArgument",
            "NVMLError_NotFound",
            "NVMLError_InvalidArgument",
            "NVMLError_NotFound",
            "NVMLError_InvalidArgument",
            "NVMLError_FunctionNotFound",
            "NVMLError_Uninitialized",
        ]

    def test_a_gpu_that_procfs_does_not_show_is_not_seen(self, tmp_path):
        simulated = plain(tmp_path / "host", gpus=2)
        information = f"{simulated.proc_root}/driver/nvidia/gpus/{simulated.gpus[0].bus_id}/information"
        os.unlink(information)
        for name in ("registry", "power"):
            os.unlink(information.replace("information", name))
        os.rmdir(os.path.dirname(information))
        program = "print(json.dumps([n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByIndex(0)), n.nvmlDeviceGetCount()]))"
        assert nvml(simulated, program) == [simulated.gpus[1].uuid, 1]


class TestCuda:
    def test_libcuda_counts_the_gpus(self, eight):
        path = f"{eight.driver_root}{eight.library_directory}/libcuda.so.1"
        code = (
            f"import ctypes; c = ctypes.CDLL({path!r}); n = ctypes.c_int(); v = ctypes.c_int()\n"
            "assert c.cuDeviceGetCount(ctypes.byref(n)) == 3\n"  # CUDA_ERROR_NOT_INITIALIZED
            "assert c.cuInit(0) == c.cuDeviceGetCount(ctypes.byref(n)) == c.cuDriverGetVersion(ctypes.byref(v)) == 0\n"
            "print(n.value, v.value)"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout == "8 13000\n"


class TestNvidiaSmi:
    def run(self, simulated, *arguments, status=0):
        program = f"{simulated.driver_root}/usr/bin/nvidia-smi"
        run = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert run.returncode == status, run.stdout + run.stderr
        return run.stdout

    def test_lists_what_the_host_has(self, mig):
        expected = ""
        for gpu in mig.gpus:
            expected += f"GPU {gpu.index}: NVIDIA H100 80GB HBM3 (UUID: {gpu.uuid})\n"
            for index, device in enumerate(gpu.mig_devices):
                expected += f"  MIG {device.profile.name}     Device  {index}: (UUID: {device.uuid})\n"
        assert self.run(mig, "-L") == expected

    def test_answers_queries_as_csv(self, eight):
        lines = self.run(eight, "--query-gpu=index,uuid,memory.total,compute_cap", "--format=csv").splitlines()
        assert lines[:2] == [
            "index, uuid, memory.total [MiB], compute_cap",
            f"0, {eight.gpus[0].uuid}, 81559 MiB, 9.0",
        ]
        assert len(lines) == 9
        assert self.run(eight, "--query-gpu=count", "--format=csv,noheader") == "8\n" * 8
        assert self.run(eight, "--query-gpu=index,memory.total", "--format=csv,noheader,nounits").startswith(
            "0, 81559\n"
        )

    def test_summary_is_a_table(self, eight):
        lines = self.run(eight).splitlines()
        assert len({len(line) for line in lines[:-1]}) == 1
        assert sum("NVIDIA H100 80GB HBM3" in line for line in lines) == 8

    @pytest.mark.parametrize(
        "arguments", [("--query-gpu=bogus", "--format=csv"), ("--query-gpu=index",), ("--bogus",), ("-L", "-x")]
    )
    def test_wrong_usage(self, eight, arguments):
        self.run(eight, *arguments, status=2)

    def test_needs_no_library(self, eight):
        with open(f"{eight.driver_root}/usr/bin/nvidia-smi", "rb") as file:
            assert not any(segment["p_type"] == "PT_INTERP" for segment in ELFFile(file).iter_segments())

    def test_other_programs_say_what_they_are(self, eight):
        output = subprocess.check_output([f"{eight.driver_root}/usr/bin/nvidia-debugdump"], text=True)
        assert output == "nvidia-debugdump 580.159.04: part of a simulated host; it does nothing\n"

    def test_a_mismatch_is_told_as_the_real_one_tells_it(self, tmp_path):
        simulated = plain(tmp_path / "host", kernel_driver_version="570.10")
        assert self.run(simulated, "-L", status=18) == (
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.159\n"
        )
