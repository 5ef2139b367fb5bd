"""The files that the NVIDIA kernel modules show in /proc, in their words.

Source: open-gpu-kernel-modules 580, kernel-open/nvidia/nv-procfs.c, nv-caps.c, nv-reg.h and utils.mk; values of
`params` as a data-centre host with the module's defaults shows them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.admin.simulate.driver_files import Driver
    from oci_gpu_hook.admin.simulate.gpus import SimulatedGpu
    from oci_gpu_hook.admin.simulate.nodes import Numbers
    from oci_gpu_hook.admin.simulate.tree import Tree

FIRST_OPEN_BRANCH: Final = 560  # from here the installer takes the open modules where the GPU has a GSP (Turing on)
FIRST_BRANCH_WITH_COHERENT_MODE: Final = 580
GPUS_IN_MIG_TABLE: Final = 32
GPU_INSTANCES: Final = 15
COMPUTE_INSTANCES: Final = 8
UNKNOWN_UUID: Final = "GPU-????????-????-????-????-????????????"  # osapi.c, rm_get_gpu_uuid
OWNER_READS, ALL_READ = 256, 292  # 0400, 0444: permissions as capability files write them

_NUMBERS: Final = """\
ResmanDebugLevel: 4294967295
RmLogonRC: 1
ModifyDeviceFiles: 1
DeviceFileUID: 0
DeviceFileGID: 0
DeviceFileMode: 438
InitializeSystemMemoryAllocations: 1
UsePageAttributeTable: 4294967295
EnableMSI: 1
EnablePCIeGen3: 0
MemoryPoolSize: 0
KMallocHeapMaxSize: 0
VMallocHeapMaxSize: 0
IgnoreMMIOCheck: 0
EnableStreamMemOPs: 0
EnableUserNUMAManagement: 1
NvLinkDisable: 0
RmProfilingAdminOnly: 1
PreserveVideoMemoryAllocations: 0
EnableS0ixPowerManagement: 0
S0ixPowerManagementVideoMemoryThreshold: 256
DynamicPowerManagement: 3
DynamicPowerManagementVideoMemoryThreshold: 200
RegisterPCIDriver: 1
EnablePCIERelaxedOrderingMode: 0
EnableResizableBar: 0
EnableGpuFirmware: 18
EnableGpuFirmwareLogs: 2
RmNvlinkBandwidthLinkCount: 0
EnableDbgBreakpoint: 0
OpenRmEnableUnsupportedGpus: 1
DmaRemapPeerMmio: 1
ImexChannelCount: 2048
CreateImexChannel0: 0
GrdmaPciTopoCheckOverride: 0
"""
_STRINGS: Final = ("RegistryDwords", "RegistryDwordsPerDevice", "RmMsg", "GpuBlacklist", "TemporaryFilePath")


def make_procfs(tree: Tree, gpus: Sequence[SimulatedGpu], modules: Driver, numbers: Numbers) -> None:
    """Write the tree below proc/. modules: the kernel's side of the driver."""
    version, branch = modules.version, modules.branch
    open_modules = branch >= FIRST_OPEN_BRANCH and all(gpu.product.has_gsp for gpu in gpus)
    tree.write("proc/devices", devices_text(numbers), 0o444)
    nvidia = "proc/driver/nvidia"
    tree.write(f"{nvidia}/version", version_text(version, modules.machine, open_modules=open_modules), 0o444)
    tree.write(f"{nvidia}/params", params_text(branch), 0o444)
    tree.write(f"{nvidia}/registry", 'Binary: ""\n', 0o644)
    tree.write(f"{nvidia}/patches/README", "", 0o444)
    tree.write(f"{nvidia}/warnings/README", "", 0o444)
    tree.directory(f"{nvidia}/gpus")
    for gpu in gpus:
        folder = f"{nvidia}/gpus/{gpu.bus_id}"
        tree.write(f"{folder}/information", information_text(gpu, version if open_modules else "N/A"), 0o444)
        tree.write(f"{folder}/registry", 'Binary: ""\n', 0o644)
        tree.write(f"{folder}/power", _POWER, 0o444)
    for path, minor, mode in _capability_files(gpus):
        tree.write(f"{nvidia}/capabilities/{path}", capability_text(minor, mode), 0o444)
    tree.write("proc/driver/nvidia-caps/mig-minors", mig_minors_text(), 0o444)
    tree.write("proc/driver/nvidia-caps/nvlink-minors", "fabric-mgmt 0\n", 0o444)
    tree.write("proc/driver/nvidia-nvlink/capabilities/fabric-mgmt", capability_text(0, ALL_READ), 0o444)


def version_text(version: str, machine: str, *, open_modules: bool) -> str:
    """Return /proc/driver/nvidia/version."""
    if open_modules:
        module = f"NVIDIA UNIX Open Kernel Module for {machine}  {version}  Release Build  (oci-gpu@simulated-host)"
    else:
        module = f"NVIDIA UNIX {machine} Kernel Module  {version}"
    compiler = "gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)"
    return f"NVRM version: {module}  Thu Jan  1 00:00:00 UTC 2026\nGCC version:  {compiler}\n"


def params_text(branch: int) -> str:
    """Return /proc/driver/nvidia/params."""
    coherent = 'CoherentGPUMemoryMode: ""\n' if branch >= FIRST_BRANCH_WITH_COHERENT_MODE else ""
    return _NUMBERS + coherent + "".join(f'{name}: ""\n' for name in (*_STRINGS, "ExcludedGpus"))


def information_text(gpu: SimulatedGpu, firmware: str) -> str:
    """Return /proc/driver/nvidia/gpus/BUS/information, tabs and blanks as the driver puts them."""
    uuid = UNKNOWN_UUID if gpu.sick else gpu.uuid
    return (
        f"Model: \t\t {gpu.product.name}\n"
        f"IRQ:   \t\t {64 + gpu.index}\n"
        f"GPU UUID: \t {uuid}\n"
        "Video BIOS: \t 96.00.89.00.01\n"
        "Bus Type: \t PCIe\n"
        "DMA Size: \t 52 bits\n"
        "DMA Mask: \t 0xfffffffffffff\n"
        f"Bus Location: \t {gpu.bus_id}\n"
        f"Device Minor: \t {gpu.minor}\n"
        f"GPU Firmware: \t {firmware}\n"
        "GPU Excluded:\t No\n"
    )


def devices_text(numbers: Numbers, *, without_nvidia: bool = False) -> str:
    """Return /proc/devices: what every host has, and the drivers of this one."""
    always = [(1, "mem"), (4, "tty"), (5, "/dev/tty"), (10, "misc"), (136, "pts")]
    nvidia = [(195, "nvidia"), (195, "nvidia-modeset"), (195, "nvidiactl"), (226, "drm")]
    of_drivers = [(major, name) for name, major in numbers.majors]
    others = [(226, "drm"), (numbers.kfd, "kfd")]
    rows = sorted([*always, *(others if without_nvidia else (*nvidia, *of_drivers))], key=lambda row: row[0])
    lines = "".join(f"{major:3d} {name}\n" for major, name in rows)
    return f"Character devices:\n{lines}\nBlock devices:\n  7 loop\n259 blkext\n"


def mig_minors_text() -> str:
    """Return /proc/driver/nvidia-caps/mig-minors: the whole table, whatever instances there are."""
    lines = ["config 1", "monitor 2"]
    minor = 3
    for gpu in range(GPUS_IN_MIG_TABLE):
        for gi in range(GPU_INSTANCES):
            lines.append(f"gpu{gpu}/gi{gi}/access {minor}")
            lines += [f"gpu{gpu}/gi{gi}/ci{ci}/access {minor + 1 + ci}" for ci in range(COMPUTE_INSTANCES)]
            minor += 1 + COMPUTE_INSTANCES
    return "\n".join(lines) + "\n"


def capability_text(minor: int, mode: int) -> str:
    """Return a capability file. mode: permission bits of the node."""
    return f"DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n"


def _capability_files(gpus: Sequence[SimulatedGpu]) -> Iterator[tuple[str, int, int]]:
    yield "mig/config", 1, OWNER_READS
    yield "mig/monitor", 2, ALL_READ
    for gpu in gpus:
        for device in gpu.mig_devices:
            instance = f"gpu{gpu.minor}/mig/gi{device.gpu_instance}"
            yield f"{instance}/access", device.gpu_instance_minor, ALL_READ
            yield f"{instance}/ci{device.compute_instance}/access", device.compute_instance_minor, ALL_READ


_POWER: Final = """\
Runtime D3 status:          Disabled by default
Video Memory:               Active

GPU Hardware Support:
 Video Memory Self Refresh: Not Supported
 Video Memory Off:          Not Supported

Power Limits:
 Default:                   N/A milliwatts
 GPU Boost:                 N/A milliwatts
"""
