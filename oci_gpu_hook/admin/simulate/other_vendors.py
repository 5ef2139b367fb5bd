"""The GPUs of AMD and Intel on a simulated host: which there are, their nodes, and their part of sysfs.

AMD: MI300X, whole (SPX) or partitioned, under KFD with a topology in the kernel's words (Linux drivers/gpu/drm/amd/
amdkfd/kfd_topology.c; ROCm/k8s-device-plugin has such topologies of real hosts). A part beyond a GPU's first has the
nodes of its own platform device, amdgpu_xcp_N. Intel: Data Center GPU Flex 170 under xe, which shows the memory of
each tile.
"""

from __future__ import annotations

from hashlib import sha256

from oci_gpu_hook.admin.simulate import pci_devices
from oci_gpu_hook.admin.simulate.nodes import DRM_MAJOR, RENDER_GID, VIDEO_GID, Node
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.admin.simulate.nodes import Numbers
    from oci_gpu_hook.admin.simulate.tree import Tree

AMD, INTEL = "amd", "intel"
MOST_PARTS: Final = 8  # compute dies of an MI300X
_MODES: Final = {1: "SPX", 2: "DPX", 4: "QPX", 8: "CPX"}
_DOMAINS: Final = {AMD: 0x10, INTEL: 0x11}  # which NVIDIA's GPUs leave free
_CPUS: Final = 2  # nodes of the topology that are processors
_GIB: Final = 1 << 30


class SimulatedDevice(Record):
    """A GPU, or a part of one. number: among the vendor's GPUs. part: among the GPU's, of `parts`.

    render: N of /dev/dri/renderDN; card: of cardN.
    """

    vendor: str
    number: int
    part: int
    parts: int
    render: int
    card: int
    unique_id: int

    @property
    def address(self) -> str:
        """The GPU's address on the PCI bus."""
        return f"{_DOMAINS[self.vendor]:04x}:{0x05 + 0x10 * self.number:02x}:00.0"

    @property
    def path(self) -> str:
        """The directory below sys/ that has its DRM nodes."""
        if self.part:
            return f"devices/platform/amdgpu_xcp_{self.number * (self.parts - 1) + self.part - 1}"
        domain = f"{_DOMAINS[self.vendor]:04x}"
        return f"devices/pci{domain}:00/{domain}:00:{self.number + 1:02x}.0/{self.address}"

    @property
    def numa_node(self) -> int:
        """The NUMA node."""
        return self.number & 1

    @property
    def names(self) -> dict[str, int]:
        """The DRM nodes and their minors."""
        return {f"card{self.card}": self.card, f"renderD{self.render}": self.render}


def make_devices(  # noqa: PLR0913  the settings of GPUs
    platforms: Sequence[str], *, count: int, parts: int, seed: int, numbers: Numbers, taken: int
) -> tuple[SimulatedDevice, ...]:
    """Return the GPUs of each platform. parts: of each of AMD's. taken: how many DRM nodes NVIDIA's GPUs have.

    Raises InvalidInput.
    """
    if parts not in _MODES:
        raise InvalidInput("partitions", f"{parts} is not a mode of an MI300X", "choose 1, 2, 4 or 8", "OGH2001")
    found: list[SimulatedDevice] = []
    for vendor in (AMD, INTEL):
        for number in range(count if vendor in platforms else 0):
            own = int.from_bytes(sha256(f"{vendor}:{seed}:{number}".encode()).digest()[:8], "big") | 1 << 63
            of_gpu = parts if vendor == AMD else 1
            for part in range(of_gpu):
                place = taken + len(found)
                found.append(
                    SimulatedDevice(
                        vendor=vendor,
                        number=number,
                        part=part,
                        parts=of_gpu,
                        render=numbers.first_render + place,
                        card=numbers.first_card + place,
                        unique_id=own,
                    )
                )
    return tuple(found)


def device_nodes(devices: Sequence[SimulatedDevice], numbers: Numbers) -> Iterator[Node]:
    """Yield the nodes."""
    if any(device.vendor == AMD for device in devices):
        yield Node(path="dev/kfd", major=numbers.kfd, minor=0, mode=0o660, gid=RENDER_GID)
    for device in devices:
        for name, minor in device.names.items():
            gid = RENDER_GID if name.startswith("renderD") else VIDEO_GID
            yield Node(path=f"dev/dri/{name}", major=DRM_MAJOR, minor=minor, mode=0o660, gid=gid)


def make_sysfs(tree: Tree, devices: Sequence[SimulatedDevice]) -> None:
    """Write the tree below sys/."""
    for directory in ("bus/pci/devices", "bus/pci/drivers", "class/drm", "dev/char"):
        tree.directory(f"sys/{directory}")
    for device in devices:
        if not device.part:
            _pci_device(tree, device)
        pci_devices.drm_nodes(tree, device.path, device.names)
    amd = [device for device in devices if device.vendor == AMD]
    if amd:
        _topology(tree, amd)


def _pci_device(tree: Tree, device: SimulatedDevice) -> None:
    amd = device.vendor == AMD
    attributes = {
        "class": "0x120000" if amd else "0x038000",
        "vendor": "0x1002" if amd else "0x8086",
        "device": "0x74a1" if amd else "0x56c0",
        "numa_node": str(device.numa_node),
        "enable": "1",
    }
    if amd:
        attributes |= {"current_compute_partition": _MODES[device.parts], "current_memory_partition": "NPS1"}
    pci_devices.pci_device(tree, device.path, attributes, "amdgpu" if amd else "xe")
    _sensors(tree, device)
    if not amd:
        tree.write(f"sys/{device.path}/tile0/physical_vram_size_bytes", f"{16 * _GIB}\n", 0o444)


def _sensors(tree: Tree, device: SimulatedDevice) -> None:
    """Write what the drivers show of a GPU that is idle: Intel's neither utilization nor memory in use."""
    monitor = f"sys/{device.path}/hwmon/hwmon{device.number + 2}"
    if device.vendor == INTEL:
        told = {"name": "xe", "temp2_input": "41000", "power1_cap": "150000000", "energy1_input": "1"}
    else:
        told = {"name": "amdgpu", "temp1_input": "38000", "power1_average": "131000000", "power1_cap": "750000000"}
        figures = {"gpu_busy_percent": 0, "mem_busy_percent": 0, "mem_info_vram_used": 297 << 20}
        for name, value in {**figures, "mem_info_vram_total": 192 * _GIB}.items():
            tree.write(f"sys/{device.path}/{name}", f"{value}\n", 0o444)
    for name, text in told.items():
        tree.write(f"{monitor}/{name}", f"{text}\n", 0o444)


def _topology(tree: Tree, devices: Sequence[SimulatedDevice]) -> None:
    root = "sys/class/kfd/kfd/topology"
    tree.write(f"{root}/generation_id", f"{_CPUS + len(devices)}\n", 0o444)
    for cpu in range(_CPUS):
        tree.write(
            f"{root}/nodes/{cpu}/properties", _lines(cpu_cores_count=96, simd_count=0, drm_render_minor=0), 0o444
        )
    for place, device in enumerate(devices):
        node = f"{root}/nodes/{_CPUS + place}"
        tree.write(f"{node}/properties", _properties(device), 0o444)
        memory = _lines(heap_type=1, size_in_bytes=192 * _GIB // device.parts, flags=0, width=8192, mem_clk_max=1300)
        tree.write(f"{node}/mem_banks/0/properties", memory, 0o444)
        others = [number for number in range(len(devices)) if number != place]
        links = [(2, device.numa_node), *((11, _CPUS + number) for number in others)]  # PCIe to a processor, XGMI
        for number, (kind, other) in enumerate(links):
            link = _lines(
                type=kind, version_major=0, version_minor=0, node_from=_CPUS + place, node_to=other, weight=15
            )
            tree.write(f"{node}/io_links/{number}/properties", link, 0o444)


def _properties(device: SimulatedDevice) -> str:
    bus = 0x05 + 0x10 * device.number
    return _lines(
        cpu_cores_count=0,
        simd_count=1216 // device.parts,
        mem_banks_count=1,
        gfx_target_version=90402,
        vendor_id=0x1002,
        device_id=0x74A1,
        location_id=bus << 8 | device.part,
        domain=_DOMAINS[AMD],
        drm_render_minor=device.render,
        hive_id=15188982192727901047,
        unique_id=device.unique_id,
        num_xcc=MOST_PARTS // device.parts,
    )


def _lines(**said: int) -> str:
    return "".join(f"{name} {value}\n" for name, value in said.items())
