"""What NVIDIA's device plugin asks of a driver, in its order: a plugin that hears this runs on a simulated host.

Source: k8s-device-plugin 0.20, internal/rm/health.go; go-nvlib, pkg/nvlib/device/mig_device.go (GetProfile);
nvidia-container-toolkit, internal/nvsandboxutils and pkg/nvcdi, which the plugin and nvidia-ctk make CDI
specifications with.
"""

from __future__ import annotations

import ctypes
import os

import pytest

from tests.unit.admin.simulate.hosts import nvml, plain


class TestHealth:
    PROGRAM = """
def wait(milliseconds):
    try:
        e = n.nvmlEventSetWait_v2(s, milliseconds)
    except n.NVMLError_Timeout:
        return "timeout"
    return [n.nvmlDeviceGetUUID(e.device), e.eventType, e.eventData, e.gpuInstanceId, e.computeInstanceId]

h = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]
s = n.nvmlEventSetCreate()
asked = n.nvmlEventTypeXidCriticalError | n.nvmlEventTypeDoubleBitEccError | n.nvmlEventTypeSingleBitEccError
supported = [n.nvmlDeviceGetSupportedEventTypes(d) & asked == asked for d in h]
for d in h:
    n.nvmlDeviceRegisterEvents(d, asked, s)
seen = [supported, wait(100)]
with open(LOST, "r+b") as file:
    file.write(bytes([255]) * 64)
seen += [wait(5000), wait(100)]
try:
    n.nvmlDeviceRegisterEvents(h[1], asked, s)
except n.NVMLError_GpuIsLost:
    seen += ["lost"]
n.nvmlEventSetFree(s)
print(json.dumps(seen))"""

    def test_a_gpu_that_falls_off_the_bus_is_an_event_once(self, tmp_path):
        simulated = plain(tmp_path / "host", gpus=2)
        lost = f"{simulated.sys_root}/bus/pci/devices/{simulated.gpus[1].bus_id}/config"
        program = self.PROGRAM.replace("LOST", repr(lost))
        event = [simulated.gpus[1].uuid, 8, 79, 0xFFFFFFFF, 0xFFFFFFFF]
        assert nvml(simulated, program) == [[True, True], "timeout", event, "timeout", "lost"]

    def test_events_are_of_gpus(self, mig):
        program = """
s, d = n.nvmlEventSetCreate(), n.nvmlDeviceGetMigDeviceHandleByIndex(n.nvmlDeviceGetHandleByIndex(0), 0)
try:
    n.nvmlDeviceRegisterEvents(d, 8, s)
except n.NVMLError_InvalidArgument:
    print(json.dumps("refused"))"""
        assert nvml(mig, program) == "refused"


def test_the_profile_of_a_mig_device_is_found_by_its_instances(mig):
    """So the plugin names resources by the strategy `mixed`: nvidia.com/mig-1g.10gb."""
    program = """
def info(name, made, *arguments):  # not by pynvml's functions, which ask for later ones than go-nvml
    error = n._nvmlGetFunctionPointer(name)(*arguments, ctypes.byref(made))
    assert error in (n.NVML_SUCCESS, n.NVML_ERROR_NOT_SUPPORTED)
    return None if error else made

def of_gpu(h, index):
    return info("nvmlDeviceGetGpuInstanceProfileInfo", n.c_nvmlGpuInstanceProfileInfo_t(), h, index)

def of_instance(g, index):
    made = n.c_nvmlComputeInstanceProfileInfo_t()
    return info("nvmlGpuInstanceGetComputeInstanceProfileInfo", made, g, index, 0)

found = []
for i in range(2):
    h = n.nvmlDeviceGetHandleByIndex(i)
    for m in range(3):
        d = n.nvmlDeviceGetMigDeviceHandleByIndex(h, m)
        g = n.nvmlDeviceGetGpuInstanceById(h, n.nvmlDeviceGetGpuInstanceId(d))
        c = n.nvmlGpuInstanceGetComputeInstanceById(g, n.nvmlDeviceGetComputeInstanceId(d))
        profile, compute = n.nvmlGpuInstanceGetInfo(g).profileId, n.nvmlComputeInstanceGetInfo(c).profileId
        gpu_profiles = [of_gpu(h, p) for p in range(n.NVML_GPU_INSTANCE_PROFILE_COUNT)]
        (gi,) = [each for each in gpu_profiles if each and each.id == profile]
        compute_profiles = [of_instance(g, p) for p in range(n.NVML_COMPUTE_INSTANCE_PROFILE_COUNT)]
        (ci,) = [each for each in compute_profiles if each and each.id == compute]
        found.append([gi.sliceCount, gi.memorySizeMB, gi.multiprocessorCount, ci.sliceCount])
print(json.dumps(found))"""
    assert nvml(mig, program) == [
        [device.profile.compute_slices, device.memory, device.multiprocessors, device.profile.compute_slices]
        for gpu in mig.gpus
        for device in gpu.mig_devices
    ]


class File(ctypes.Structure):
    pass


File._fields_ = [
    ("next", ctypes.POINTER(File)),
    ("type", ctypes.c_uint),
    ("subtype", ctypes.c_uint),
    ("module", ctypes.c_uint),
    ("flags", ctypes.c_uint),
    ("path", ctypes.c_char_p),
]


class Request(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint),
        ("input_type", ctypes.c_uint),
        ("input", ctypes.c_char * 256),
        ("files", ctypes.POINTER(File)),
    ]


class TestSandboxUtils:
    UUID, MIG_UUID, PCI_ID = 0, 1, 2
    SUCCESS, UNINITIALIZED, INVALID_ARG, INSUFFICIENT_SIZE, FILEPATH_NOT_FOUND = 0, 1, 3, 4, 11
    IS_CONTENT = 4

    @pytest.fixture
    def library(self, mig):
        """The library of a host, initialized as for a driver root."""
        made = ctypes.CDLL(f"{mig.driver_root}{mig.library_directory}/libnvidia-sandboxutils.so.1")
        assert made.nvSandboxUtilsGetDriverVersion(ctypes.create_string_buffer(100), 100) == self.UNINITIALIZED
        root = Request(version=1, input_type=1, input=b"/")
        assert made.nvSandboxUtilsInit(ctypes.byref(root)) == self.SUCCESS
        yield made
        assert made.nvSandboxUtilsShutdown() == self.SUCCESS

    def files(self, library, kind: int, name: str) -> list[tuple[int, int, str]]:
        request = Request(version=1, input_type=kind, input=name.encode())
        assert library.nvSandboxUtilsGetGpuResource(ctypes.byref(request)) == self.SUCCESS
        found, file = [], request.files
        while file:
            found.append((file[0].subtype, file[0].flags, file[0].path.decode()))
            file = file[0].next
        return found

    def test_the_driver_s_version(self, library):
        version = ctypes.create_string_buffer(100)
        assert library.nvSandboxUtilsGetDriverVersion(version, 100) == self.SUCCESS
        assert version.value == b"580.159.04"

    def test_the_files_of_a_gpu(self, library, mig):
        gpu = mig.gpus[0]
        card, render = mig.numbers.drm(0)
        expected = [
            (0, 0, f"/dev/nvidia{gpu.minor}"),
            (1, 0, f"/dev/dri/{card}"),
            (2, 0, f"/dev/dri/{render}"),
            (3, self.IS_CONTENT, f"/dev/dri/by-path/pci-{gpu.bus_id}-card"),
            (4, self.IS_CONTENT, f"/dev/dri/by-path/pci-{gpu.bus_id}-render"),
        ]
        assert self.files(library, self.UUID, gpu.uuid) == expected
        assert self.files(library, self.PCI_ID, gpu.bus_id) == expected

    def test_the_files_of_a_mig_device(self, library, mig):
        gpu = mig.gpus[1]
        device = gpu.mig_devices[2]
        found = self.files(library, self.MIG_UUID, device.uuid)
        assert found[:5] == self.files(library, self.UUID, gpu.uuid)
        minors = (device.gpu_instance_minor, device.compute_instance_minor)
        assert found[5:] == [(10, 0, f"/dev/nvidia-caps/nvidia-cap{minor}") for minor in minors]

    def test_no_such_device(self, library):
        request = Request(version=1, input_type=self.UUID, input=b"GPU-none")
        assert library.nvSandboxUtilsGetGpuResource(ctypes.byref(request)) == self.INVALID_ARG

    def test_where_a_link_leads(self, library, mig):
        link = f"/dev/dri/by-path/pci-{mig.gpus[0].bus_id}-card"
        made = f"{mig.dev_root}{link}"
        os.makedirs(os.path.dirname(made), exist_ok=True)
        os.symlink("../card1", made)
        content = ctypes.create_string_buffer(256)
        size = ctypes.c_uint(256)
        assert library.nvSandboxUtilsGetFileContent(link.encode(), content, ctypes.byref(size)) == self.SUCCESS
        assert (content.value, size.value) == (b"../card1", 8)
        small = ctypes.c_uint(4)
        wanted = self.INSUFFICIENT_SIZE
        assert library.nvSandboxUtilsGetFileContent(link.encode(), content, ctypes.byref(small)) == wanted
        wanted = self.FILEPATH_NOT_FOUND
        assert library.nvSandboxUtilsGetFileContent(b"/dev/none", content, ctypes.byref(size)) == wanted
        os.unlink(made)
