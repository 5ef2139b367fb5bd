"""The words of a plan: CDI 1.1.0 `containerEdits`, and beside them what CDI has no word for. Pure values.

Source: Container Device Interface 1.1.0, SPEC.md ("OCI Edits") and specs-go/config.go. Python names are the JSON names
in snake_case. CDI leaves out what an author does not say: here that is "" or (), and -1 where it is a number. What is
missing is filled in from the host by `compose.filled`; `compose.merged` joins edits.
"""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

UNSAID: Final = -1
NO_PERMISSIONS: Final = "none"  # a node that comes without a rule in the device cgroup


class DeviceNode(Record):
    """A device node at `path` in the container.

    host_path: the host's node, where it is not at the same path. type: c, b, u or p. file_mode: permission bits.
    permissions: of the device cgroup, a subset of `rwm`; "none" for no rule; unsaid, CDI takes `rwm`.
    """

    path: str
    host_path: str = ""
    type: str = ""
    major: int = UNSAID
    minor: int = UNSAID
    file_mode: int = UNSAID
    uid: int = UNSAID
    gid: int = UNSAID
    permissions: str = ""


class NetDevice(Record):
    """A network interface of the host that moves into the container, under the name that it has there."""

    host_interface_name: str
    name: str


class Mount(Record):
    """A bind of a host file or directory, or (type "tmpfs") a small file system of this project's own.

    directory: whether it goes onto a directory, which CDI does not say: its readers look at the host's file.
    """

    host_path: str
    container_path: str
    options: tuple[str, ...] = ("ro", "nosuid", "nodev", "bind", "private")
    type: str = ""
    directory: bool = False


class Hook(Record):
    """A program that the OCI runtime runs at a point of the container's life (`hook_name`). timeout: seconds."""

    hook_name: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int = UNSAID


class IntelRdt(Record):
    """The container's class of service in Intel's Resource Director Technology (OCI runtime spec, linux.intelRdt)."""

    clos_id: str = ""
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    schemata: tuple[str, ...] = ()
    enable_monitoring: bool = False


class ContainerEdits(Record):
    """CDI's containerEdits, all of them."""

    env: tuple[str, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    net_devices: tuple[NetDevice, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    additional_gids: tuple[int, ...] = ()
    intel_rdt: IntelRdt | None = None


# What CDI has no word for. Its vendors reach for hooks instead, which run in every container's start.


class Symlink(Record):
    """A symbolic link at `path` in the container."""

    path: str
    target: str


class GeneratedFile(Record):
    """A file whose contents this project writes; it lives in a tmpfs mount of the same plan."""

    path: str
    contents: bytes


def groups(nodes: Iterable[DeviceNode]) -> tuple[int, ...]:
    """Return the groups that a process needs for nodes that not everybody may read and write."""
    return tuple(sorted({node.gid for node in nodes if node.gid > 0 and node.file_mode & 0o006 != 0o006}))


def restricted(nodes: Iterable[DeviceNode]) -> list[DeviceNode]:
    """Return the nodes that not everybody may open, by their modes: some may read or write that others may not."""
    return [node for node in nodes if not _is_for_all(node.file_mode)]


def needed(mode: int) -> int:
    """Return what is done with a node, of 0o6: what its mode lets anybody do. Those of MIG devices are only read."""
    return (mode | mode >> 3 | mode >> 6) & 0o6


def _is_for_all(mode: int) -> bool:
    wanted = needed(mode)
    return mode & mode >> 3 & mode >> 6 & wanted == wanted
