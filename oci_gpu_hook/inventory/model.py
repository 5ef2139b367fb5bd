"""The values of the inventory. All of it is plain data, so that the cache holds it as JSON."""

from __future__ import annotations

from oci_gpu_hook.record import Record


class DeviceNode(Record):
    """A character device of the host, seen by stat, that containers may be given.

    path is where containers see it; host_path is below the configured dev-root.
    """

    path: str
    host_path: str
    major: int
    minor: int
    mode: int  # permission bits
    uid: int
    gid: int


class MigDevice(Record):
    """A MIG device: a compute instance of a GPU instance. Sizes in bytes, minors of /dev/nvidia-caps/nvidia-capN."""

    index: int
    uuid: str
    gpu_instance: int
    compute_instance: int
    profile: str
    memory: int
    gpu_instance_minor: int
    compute_instance_minor: int


class Gpu(Record):
    """A GPU. What only NVML can tell is empty ("" or 0, None) until NVML was asked.

    bus_id: `00000000:00:06.0`, as NVML and the design write it: domain in eight hex digits.
    architecture: compute capability, "9.0". memory: bytes. links: index of a peer → number of NVLinks to it.
    drm: names below /dev/dri, e.g. ("card1", "renderD128").
    """

    index: int
    uuid: str
    minor: int
    bus_id: str
    name: str = ""
    brand: str = ""
    architecture: str = ""
    memory: int = 0
    numa_node: int | None = None
    pcie_switch: str = ""
    links: tuple[tuple[int, int], ...] = ()
    drm: tuple[str, ...] = ()
    mig_enabled: bool = False
    mig_devices: tuple[MigDevice, ...] = ()


class Library(Record):
    """A shared library of the driver.

    host_path: the file to bind, no symlink. name: its file name in the container, e.g. libcuda.so.580.159.04.
    directory: below the library directory, "" or e.g. "vdpau". soname: libcuda.so.1, "" where it has none.
    links: (name, target) pairs beside it, SONAME link first, e.g. (("libcuda.so.1", "libcuda.so.580.159.04"),
    ("libcuda.so", "libcuda.so.1")). bits: 64 or 32. cached: whether the ld cache lists it.
    """

    host_path: str
    name: str
    soname: str
    links: tuple[tuple[str, str], ...]
    directory: str = ""
    bits: int = 64
    cached: bool = True
    capabilities: tuple[str, ...]


class DriverFile(Record):
    """Any other file or directory of the driver, bound at container_path: binaries, firmware, configuration."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ("ro", "nosuid", "nodev")
    capabilities: tuple[str, ...]


class Link(Record):
    """A symbolic link that the driver's files want beside them."""

    path: str
    target: str
    capabilities: tuple[str, ...]


class Inventory(Record):
    """What the host has. `cuda_version` ("13.0") is "" until NVML or libcuda was asked.

    control_nodes: nodes that are of no single GPU, by path: /dev/nvidiactl, /dev/nvidia-uvm, …
    gpu_nodes: minor → /dev/nvidiaN. cap_nodes: minor → /dev/nvidia-caps/nvidia-capN.
    detailed: whether NVML has filled in what /proc and sysfs cannot tell.
    """

    driver_version: str
    cuda_version: str = ""
    gpus: tuple[Gpu, ...]
    libraries: tuple[Library, ...]
    files: tuple[DriverFile, ...]
    links: tuple[Link, ...] = ()
    nodes: tuple[DeviceNode, ...]
    detailed: bool = False
    warnings: tuple[str, ...] = ()
