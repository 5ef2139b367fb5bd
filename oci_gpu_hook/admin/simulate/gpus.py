"""Which GPUs a simulated host has: where they sit, what they are called, how they are linked and partitioned.

Pure and repeatable: the same settings give the same UUIDs and bus ids on every machine.
"""

from __future__ import annotations

import uuid
from hashlib import sha256

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.admin.simulate.products import MigProfile, Product

MOST_GPUS: Final = 32  # the driver's table of MIG capabilities has room for so many (open-gpu-kernel-modules nv-caps.c)
CAPABILITIES_OF_GPU: Final = 135  # 15 GPU instances, each with its own capability and 8 of compute instances
FIRST_MIG_MINOR: Final = 3  # after fabric-mgmt 0, mig/config 1, mig/monitor 2

# The slots of an 8-GPU board: bus of the GPU, and root bus of its PCIe switch. Slots 2n and 2n+1 share a switch and,
# where the product has NVLink, are linked; the first four slots are on NUMA node 0, the others on node 1.
SLOTS: Final = (
    (0x1B, 0x15),
    (0x43, 0x15),
    (0x52, 0x4F),
    (0x61, 0x4F),
    (0x9D, 0x97),
    (0xC3, 0x97),
    (0xD1, 0xCD),
    (0xDF, 0xCD),
)

IN_THE_CHIP: Final = -1  # the slot of a Tegra's own GPU; Thor's driver says that it is at 0000:01:00.0


class SimulatedMigDevice(Record):
    """A MIG device: a GPU instance with one compute instance that fills it. memory in MiB.

    start: the first memory slice of eight. minors: of /dev/nvidia-caps/nvidia-capN.
    """

    uuid: str
    profile: MigProfile
    start: int
    gpu_instance: int
    compute_instance: int = 0
    memory: int
    multiprocessors: int
    gpu_instance_minor: int
    compute_instance_minor: int


class SimulatedGpu(Record):
    """A GPU. bus_id: as procfs and sysfs write it, four hex digits of domain. peer: index of the GPU linked to it.

    sick: the driver could not start it, so it has no UUID and NVML does not count it. lost: it has fallen off the bus
    since, which NVML says. node: below /dev, where it is not nvidiaN. integrated: a Tegra's own, which has no
    place on a bus.
    """

    index: int
    minor: int
    uuid: str
    product: Product
    domain: int
    slot: int
    peer: int | None
    mig_enabled: bool = False
    mig_devices: tuple[SimulatedMigDevice, ...] = ()
    sick: bool = False
    lost: bool = False
    node: str = ""
    integrated: bool = False

    @property
    def bus(self) -> int:
        """The PCI bus number."""
        if self.slot == IN_THE_CHIP:
            return 1
        return SLOTS[self.slot][0]

    @property
    def bus_id(self) -> str:
        """The address below /sys/bus/pci/devices and /proc/driver/nvidia/gpus."""
        return f"{self.domain:04x}:{self.bus:02x}:00.0"

    @property
    def numa_node(self) -> int:
        """The NUMA node."""
        return 0 if self.slot < 4 else 1


def make_gpus(  # noqa: PLR0913  the settings of GPUs
    count: int,
    product: Product,
    *,
    seed: int,
    minors: Sequence[int] | None,
    mig_profiles: Sequence[str],
    sick: Sequence[int] = (),
    lost: Sequence[int] = (),
) -> tuple[SimulatedGpu, ...]:
    """Return `count` GPUs of a product, all partitioned into `mig_profiles` (none: MIG is off). Raises InvalidInput."""
    if not 0 <= count <= MOST_GPUS:
        raise InvalidInput(
            "number of GPUs", f"{count} is out of range", f"give a number from 0 to {MOST_GPUS}", "OGH2001"
        )
    minors = range(count) if minors is None else minors
    if len(minors) != count or len(set(minors)) != count or not all(0 <= minor < MOST_GPUS for minor in minors):
        remedy = f"give {count} different numbers from 0 to {MOST_GPUS - 1}"
        raise InvalidInput("minors", f"{quoted(list(minors))} do not name {count} GPUs", remedy, "OGH2001")
    if not all(0 <= place < count for place in (*sick, *lost)):
        why = f"{quoted([*sick, *lost])} are not among {count} GPUs"
        raise InvalidInput("sick or lost GPUs", why, "count them from 0 in the order of the PCI bus", "OGH2001")
    places = _places(count)
    gpus = []
    for index, (domain, slot) in enumerate(places):
        neighbour = (domain, slot ^ 1)
        gpus.append(
            SimulatedGpu(
                index=index,
                minor=minors[index],
                uuid=f"GPU-{_uuid(seed, index)}",
                product=product,
                domain=domain,
                slot=slot,
                peer=places.index(neighbour) if product.nvlinks and neighbour in places else None,
                mig_enabled=bool(mig_profiles),
                mig_devices=_mig_devices(product, mig_profiles, seed=seed, index=index, minor=minors[index]),
                sick=index in sick,
                lost=index in lost,
            )
        )
    return tuple(gpus)


def in_the_chip(product: Product, *, seed: int, on_bus: bool) -> SimulatedGpu:
    """Return a Tegra's own GPU. on_bus: whether it shows itself as a PCI device, as Thor's does."""
    number = uuid.UUID(bytes=sha256(f"tegra:{seed}".encode("ascii")).digest()[:16])
    return SimulatedGpu(
        index=0,
        minor=0,
        uuid=f"GPU-{number}" if on_bus else str(number),
        product=product,
        domain=0,
        slot=IN_THE_CHIP,
        peer=None,
        node="" if on_bus else "nvgpu/igpu0/ctrl",
        integrated=not on_bus,
    )


def default_profiles(product: Product) -> tuple[str, ...]:
    """Return a partition with devices of three sizes. Raises InvalidInput when the product knows no MIG."""
    names = [profile.name for profile in product.mig_profiles if profile.compute_slices == profile.memory_slices]
    if not names:
        raise InvalidInput(
            "MIG", f"{product.name} cannot be partitioned", "choose an A100, H100, H200 or B200", "OGH2001"
        )
    three = next(profile.name for profile in product.mig_profiles if profile.compute_slices == 3)
    return (three, names[1], names[0])


def _places(count: int) -> list[tuple[int, int]]:
    """Return (PCI domain, slot) of each GPU in PCI order: boards of eight, each spread over both sockets."""
    places = []
    for domain in range((count + 7) // 8):
        on_board = min(8, count - 8 * domain)
        first_socket = on_board if on_board <= 2 else (on_board + 1) // 2
        slots = [*range(first_socket), *range(4, 4 + on_board - first_socket)]
        places += [(domain, slot) for slot in slots]
    return places


def _mig_devices(
    product: Product, names: Sequence[str], *, seed: int, index: int, minor: int
) -> tuple[SimulatedMigDevice, ...]:
    """Place the profiles on the GPU's eight memory slices, in the order given, each where it first fits."""
    known = {profile.name: profile for profile in product.mig_profiles}
    taken: set[int] = set()
    devices = []
    for name in names:
        profile = known.get(name)
        if profile is None:
            choice = ", ".join(known) or "none: it cannot be partitioned"
            raise InvalidInput(
                "MIG profile", f"{product.name} has no {quoted(name)}", f"its profiles are: {choice}", "OGH2001"
            )
        start = _free_start(profile, taken)
        taken.update(range(start, start + profile.memory_slices))
        gpu_instance = 8 // profile.memory_slices - 1 + start // profile.memory_slices  # a binary tree, in heap order
        capability = FIRST_MIG_MINOR + minor * CAPABILITIES_OF_GPU + gpu_instance * 9
        devices.append(
            SimulatedMigDevice(
                uuid=f"MIG-{_uuid(seed, index, start)}",
                profile=profile,
                start=start,
                gpu_instance=gpu_instance,
                memory=product.memory * profile.memory_slices // 8,
                multiprocessors=product.slice_multiprocessors * profile.compute_slices,
                gpu_instance_minor=capability,
                compute_instance_minor=capability + 1,
            )
        )
    return tuple(devices)


def _free_start(profile: MigProfile, taken: set[int]) -> int:
    for start in range(0, 8, profile.memory_slices):
        # The eighth memory slice has no compute slice: only larger instances reach it.
        if start + profile.compute_slices <= 7 and taken.isdisjoint(range(start, start + profile.memory_slices)):
            return start
    remedy = "ask for fewer or smaller ones; a GPU has seven compute and eight memory slices"
    raise InvalidInput("MIG profiles", f"no room is left for {quoted(profile.name)}", remedy, "OGH2001")


def _uuid(*parts: int) -> uuid.UUID:
    return uuid.UUID(bytes=sha256(":".join(map(str, parts)).encode("ascii")).digest()[:16])
