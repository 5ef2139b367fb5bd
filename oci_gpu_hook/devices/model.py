"""What every vendor's room gives: devices, and what a container gets by them. Pure values."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.base.formats.ldcache import Entry
    from oci_gpu_hook.devices.edits import ContainerEdits, GeneratedFile, Symlink


class Device(Record):
    """A device that a container can be given: a whole one, or a part of one such as a MIG device.

    kind, name: those of its CDI-qualified name, nvidia.com/gpu=0:1. index: of the whole device, in the vendor's order.
    part: its number among the parts of the whole device, -1 for a whole device. label: what messages call it, "GPU 0".
    whole: UUID of the device that it is a part of, "" for a whole device. parts: UUIDs of its own parts.
    profile: the size that a part was made with, "1g.10gb". memory: bytes, 0 where nobody can tell.
    countable: whether a request for so many devices, without more words, may be given it.
    fault: why nobody can be given it, "" for a device that works.
    excluded: whether the host's configuration keeps it out of `all` and of every count; by name it can be had.
    numa_node, pcie_switch, peer_links: its place. Links are (index of a peer, number of links to it).
    native: what the vendor's room itself knows the device by.
    """

    kind: str
    name: str
    uuid: str
    index: int
    part: int = -1
    label: str
    whole: str = ""
    parts: tuple[str, ...] = ()
    profile: str = ""
    memory: int = 0
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
    """What messages call a vendor's devices: `whole` ("GPU") and `part` ("MIG device"), whose plural has an s.

    partitioned: what is said of whole devices that a count passes over.
    """

    whole: str
    part: str
    partitioned: str


class Contribution(Record):
    """What a container gets by the devices of one vendor: CDI's edits, and what CDI has no word for.

    ld_cache: the libraries that the container's ld cache is to list. decisions: what was chosen and why, a sentence
    each. driver_version: of the driver whose files these are.
    unmet: further warnings, of what makes something that was asked for useless.
    late: what is lacking because the host has not made it yet: container paths of nodes, which may end in `*` for
    digits, and of files that belong to such nodes; and whether what was asked for is of no use without.
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
