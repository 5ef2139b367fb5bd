"""The values that every vendor's room returns: devices, and what they bring to a container. Pure."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.base.formats.ldcache import Entry
    from oci_gpu_hook.devices.edits import ContainerEdits, GeneratedFile, Symlink

MARKED_SICK: Final = "it is marked sick"  # how the fault of a device begins that its driver still has
PIPE_OF_MPS: Final = "/tmp/nvidia-mps"  # noqa: S108  where CUDA looks for its MPS daemon, unless it is told


class Device(Record):
    """A device that a container can be granted: a whole one, or a part of one such as a MIG device.

    kind, name: the parts of its CDI-qualified name, nvidia.com/gpu=0:1. label: its name in messages, "GPU 0".
    index: of the whole device, in the vendor's order. part: its number in the whole device, -1 for a whole device.
    whole: UUID of the device that it is a part of, "" for a whole device. parts: UUIDs of its own parts.
    undivided: UUID of the GPU when it is not divided, for a device that is one or a part, "" if it cannot be divided
    while containers hold it; parts then have that UUID with `:N`.
    profile: the size with which a part was made, "1g.10gb". memory: bytes, 0 if unknown. shareable: how many of them
    shares may have together.
    countable: whether a request for a number of devices, without a profile, can get it.
    fault: why nobody can get it, "" for a device that works.
    excluded: whether the host's configuration keeps it out of `all` and of every count; by name it can be requested.
    numa_node, pcie_switch, peer_links: its place. A link is (index of the peer, number of links to it).
    native: the vendor's room's own value for the device.
    """

    kind: str
    name: str
    uuid: str
    index: int
    part: int = -1
    label: str
    whole: str = ""
    parts: tuple[str, ...] = ()
    undivided: str = ""
    profile: str = ""
    memory: int = 0
    shareable: int = 0
    countable: bool = True
    fault: str = ""
    excluded: bool = False
    numa_node: int | None = None
    pcie_switch: str = ""
    peer_links: tuple[tuple[int, int], ...] = ()
    native: object = None

    @property
    def is_single(self) -> bool:
        """Whether schedulers can hand it out by itself: a part, or a whole device that has not been divided."""
        return bool(self.whole) or (self.countable and not self.parts)

    @property
    def position(self) -> tuple[int, int]:
        """Where the device stands in the order of its kind."""
        return self.index, self.part


class Terms(Record):
    """The words for a vendor's devices in messages: `whole` ("GPU") and `part` ("MIG device"); plurals end in s.

    partitioned: describes whole devices that a count skips.
    """

    whole: str
    part: str
    partitioned: str


class Limiter(Record):
    """A daemon of the driver that holds the programs of a container to its parts of devices.

    program: its host path. environment: what it needs. commands: that set the limits, one a line.
    pipe: where containers look for its pipe directory.
    """

    program: str
    environment: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    pipe: str


class Contribution(Record):
    """What a container gets with the devices of one vendor: CDI's edits, and edits that CDI does not have.

    ld_cache: the libraries that the container's ld cache must list. decisions: sentences that say what was chosen and
    why. driver_version: of the driver whose files these are.
    unmet: further warnings, of things that make something useless that was asked for.
    late: what is missing because the host has not created it yet: container paths of nodes, which may end in `*` for
    digits, and of files that belong to such nodes; and whether what was asked for is useless without it.
    """

    edits: ContainerEdits
    links: tuple[Symlink, ...] = ()
    files: tuple[GeneratedFile, ...] = ()
    ld_cache: tuple[Entry, ...] = ()
    decisions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    driver_version: str = ""
    late: tuple[tuple[str, bool], ...] = ()


def is_sick(fault: str) -> bool:
    """Tell whether a device has its fault because it is marked, and not because its driver has lost it."""
    return fault.startswith(MARKED_SICK)


def why_not(fault: str) -> str:
    """Return the words for a device's fault."""
    return fault if is_sick(fault) else f"the driver has lost it: {fault}"
