"""The values of the inventory. All of them are plain data, so that they can be stored as JSON."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

    Lacking = tuple[tuple[str, ...], str]

FALLEN_OFF: Final = "it does not answer on the PCI bus"


class DeviceNode(Record):
    """A character device of the host, seen by stat, that containers may be given.

    path: in containers; host_path: below the configured dev-root. capabilities: driver capabilities and features, any
    of which brings it. Empty for /dev/nvidiactl, which every container gets, and for nodes that come with a granted
    GPU, MIG device or IMEX channel.
    """

    path: str
    host_path: str
    major: int
    minor: int
    mode: int  # permission bits
    uid: int
    gid: int
    capabilities: tuple[str, ...] = ()


class MigDevice(Record):
    """A MIG device: a compute instance of a GPU instance. Sizes in bytes, minors of /dev/nvidia-caps/nvidia-capN.

    The instances and minors (-1 if mig-minors does not list one) are from /proc; uuid, profile, memory and the order of
    index are from NVML.
    """

    index: int
    uuid: str
    gpu_instance: int
    compute_instance: int
    profile: str
    memory: int
    gpu_instance_minor: int
    compute_instance_minor: int


class Gpu(Record):
    """A GPU. Values that only NVML knows are empty ("" or 0, None) until NVML was asked.

    bus_id: `00000000:00:06.0`, as NVML and the design write it: domain in eight hex digits.
    architecture: compute capability, "9.0". memory: bytes. links: index of a peer → number of NVLinks to it.
    index: NVML's, -1 for a GPU that it does not count; before NVML was asked, the order on the PCI bus. uuid: the bus
    id if neither /proc nor NVML knows it. proc_name: below /proc/driver/nvidia/gpus. fault: why nobody can use it, ""
    for a GPU that works.
    brand: NVML's, in the spelling of requirements ("tesla", "geforcertx"). pcie_switch: PCI address of the upstream
    port of its switch, "" if it is on a root port. drm: names in /dev/dri, e.g. ("card1", "renderD128").
    nodes: all nodes of a GPU on a platform with other ones than /dev/nvidiaN beside /dev/nvidiactl, otherwise empty.
    """

    index: int
    uuid: str
    minor: int
    bus_id: str
    proc_name: str = ""
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
    persistence_mode: bool | None = None
    fault: str = ""
    nodes: tuple[str, ...] = ()


def pci_address(bus_id: str) -> str:
    """Return a bus id as sysfs and udev write it, 0000:00:06.0, with a domain of four digits, or more if necessary.

    Source: Linux drivers/pci/probe.c, pci_setup_device.
    """
    domain, _, rest = bus_id.partition(":")
    return f"{domain.lstrip('0'):0>4}:{rest}"


class Library(Record):
    """A shared library of the driver.

    host_path: the file to bind, not a symlink. name: its file name in the container, e.g. libcuda.so.580.159.04.
    directory: below the library directory, "" or e.g. "vdpau". soname: libcuda.so.1, "" if it has none.
    links: (name, target) pairs beside it, SONAME link first, e.g. (("libcuda.so.1", "libcuda.so.580.159.04"),
    ("libcuda.so", "libcuda.so.1")). bits: 64 or 32. cached: whether the ld cache must list it (not for plug-ins, which
    are loaded by path). capabilities: any of them brings it; a 32-bit library also needs compat32.
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
    """Any other file or directory of the driver, bound at container_path: programs, firmware, configuration.

    capabilities: driver capabilities and features, any of which brings it; empty: every container gets it. directory:
    whether it is a directory.
    """

    host_path: str
    container_path: str
    options: tuple[str, ...] = ("ro", "nosuid", "nodev")
    capabilities: tuple[str, ...]
    directory: bool = False


class Link(Record):
    """A symbolic link that the driver's files need beside them.

    path: absolute, or relative to the container's library directory for that word size. to_library: whether target is
    a name in that directory.
    """

    path: str
    target: str
    capabilities: tuple[str, ...]
    bits: int = 64
    to_library: bool = False


class Inventory(Record):
    """All that the host has. `cuda_version` ("13.0") is "" until NVML or libcuda was asked.

    nodes: every node that exists at this moment: /dev/nvidiaN, /dev/nvidiactl, /dev/nvidia-uvm,
    /dev/nvidia-caps/nvidia-capN, /dev/nvidia-caps-imex-channels/channelN, /dev/dri/cardN, nodes of features.
    missing_nodes: (path, capabilities) of control nodes that the host lacks, such as /dev/nvidia-modeset without a
    display. imex_major: of IMEX channels, 0 if the driver has none. proc_files: (name, text) of the files in
    containers' /proc/driver/nvidia; its params forbids the driver's programs to create device nodes. detailed: whether
    NVML has added what /proc and sysfs do not show. unclaimed: driver files that no capability brings. lacking:
    (capabilities, sentence) for essential files that the driver lacks. platform: of `platforms`, "" for the driver of
    Linux hosts; driver_version may be unknown ("") on others.
    """

    driver_version: str
    cuda_version: str = ""
    gpus: tuple[Gpu, ...]
    libraries: tuple[Library, ...]
    files: tuple[DriverFile, ...]
    links: tuple[Link, ...] = ()
    nodes: tuple[DeviceNode, ...]
    missing_nodes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    imex_major: int = 0
    proc_files: tuple[tuple[str, str], ...] = ()
    detailed: bool = False
    platform: str = ""
    lacking: tuple[Lacking, ...] = ()
    unclaimed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class RequestInventory(Record):
    """The part of the inventory for one request: all GPUs, but only the files and nodes that `wanted` can bring.

    wanted: the driver capabilities and features of the request. mps: the pipe directories of MPS, if it may use one.
    The other fields are those of Inventory.
    """

    wanted: frozenset[str]
    driver_version: str
    cuda_version: str = ""
    gpus: tuple[Gpu, ...]
    libraries: tuple[Library, ...]
    files: tuple[DriverFile, ...]
    links: tuple[Link, ...] = ()
    nodes: tuple[DeviceNode, ...]
    missing_nodes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    imex_major: int = 0
    proc_files: tuple[tuple[str, str], ...] = ()
    detailed: bool = False
    platform: str = ""
    lacking: tuple[Lacking, ...] = ()
    warnings: tuple[str, ...] = ()
    mps: tuple[DriverFile, ...] = ()


class Basis(Record):
    """What an inventory was made from, and what may be added to it.

    candidates: the nodes to check, from host_nodes. watched, present, texts: host paths, the arguments of facts.gather.
    facts: its result.
    """

    candidates: Mapping[str, Sequence[Any]]
    watched: Sequence[str]
    present: Sequence[str]
    texts: Sequence[str] = ()
    facts: list[Any]


class Snapshot(Record):
    """The whole inventory at one moment."""

    inventory: Inventory
    basis: Basis


class RequestSnapshot(Record):
    """The inventory for a request at one moment."""

    inventory: RequestInventory
    basis: Basis
