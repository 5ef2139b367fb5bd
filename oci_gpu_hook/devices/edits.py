"""The edits in a plan: CDI 1.1.0's `containerEdits`, and edits that CDI does not have. Pure values.

Source: Container Device Interface 1.1.0, SPEC.md ("OCI Edits") and specs-go/config.go. Python names are the JSON names
in snake_case. A field that CDI's JSON omits is "" or () here, and -1 if it is a number. `compose.filled` completes
fields from the host; `compose.merged` joins edits.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final, TypeAlias

    # (major, minor) of a character device; (major, minor, "b") of a block device. Most devices have two, as all have in
    # the journals of older versions.
    Numbers: TypeAlias = tuple[int, int] | tuple[int, int, str]

UNSAID: Final = -1
NO_PERMISSIONS: Final = "none"  # a node without a rule in the device cgroup


class DeviceNode(Record):
    """A device node at `path` in the container.

    host_path: the host's node, if it has another path. type: c, b, u or p. file_mode: permission bits. permissions: in
    the device cgroup, a subset of `rwm`; "none" for no rule; CDI's default is `rwm`.
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
    """A network interface of the host that moves into the container, and its name there."""

    host_interface_name: str
    name: str


class Mount(Record):
    """A bind mount of a host file or directory or, with type "tmpfs", a small file system of this project's own.

    Fields that CDI does not have: directory: whether the mountpoint is a directory, which other readers of CDI see from
    the host's file. optional: whether a container starts without the mount if there is no place for it.
    """

    host_path: str
    container_path: str
    options: tuple[str, ...] = ("ro", "nosuid", "nodev", "bind", "private")
    type: str = ""
    directory: bool = False
    optional: bool = False


class Hook(Record):
    """A program that the OCI runtime runs at a stage of the container's life (`hook_name`). timeout: seconds."""

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
    """CDI's containerEdits, with all of its fields."""

    env: tuple[str, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    net_devices: tuple[NetDevice, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    additional_gids: tuple[int, ...] = ()
    intel_rdt: IntelRdt | None = None


# Edits that CDI does not have. Vendors use hooks for these, which run at every container's start.


class Symlink(Record):
    """A symbolic link at `path` in the container. optional: as in Mount."""

    path: str
    target: str
    optional: bool = False


class GeneratedFile(Record):
    """A file whose contents this project writes, in a tmpfs mount of the same plan."""

    path: str
    contents: bytes


def plain(path: str) -> str:
    """Return a path in a container from / on, without empty and `.` components: one place has one such path.

    What `..` leads to is known in the container alone.
    """
    return "/" + "/".join(part for part in path.split("/") if part not in ("", ".")) if path else ""


def numbers(node: DeviceNode) -> Numbers:
    """Return the numbers of a node that is not a FIFO."""
    return (node.major, node.minor, "b") if node.type == "b" else (node.major, node.minor)


def numbers_of(status: os.stat_result) -> Numbers | None:
    """Return the numbers of what was looked at, None if it is not a device."""
    pair = os.major(status.st_rdev), os.minor(status.st_rdev)
    if stat.S_ISBLK(status.st_mode):
        return (*pair, "b")
    return pair if stat.S_ISCHR(status.st_mode) else None


def type_of(found: Numbers) -> str:
    """Return the type of a device, c or b."""
    return "b" if len(found) == 3 else "c"


def shown(found: Numbers) -> str:
    """Return MAJOR:MINOR."""
    return f"{found[0]}:{found[1]}"


def of_devices(nodes: Sequence[DeviceNode]) -> Sequence[DeviceNode]:
    """Return the nodes that are devices: all but FIFOs."""
    return [node for node in nodes if node.type != "p"]


def groups(nodes: Iterable[DeviceNode]) -> tuple[int, ...]:
    """Return the groups that a process needs to open nodes that not everybody may read and write."""
    return tuple(sorted({node.gid for node in nodes if node.gid > 0 and node.file_mode & 0o006 != 0o006}))


def restricted(nodes: Iterable[DeviceNode]) -> list[DeviceNode]:
    """Return the nodes that, by their modes, not everybody may open."""
    return [node for node in nodes if not _is_for_all(node.file_mode)]


def needed(mode: int) -> int:
    """Return the bits of 0o6 that a process needs on a node: those that any class has. MIG's nodes are only read."""
    return (mode | mode >> 3 | mode >> 6) & 0o6


def _is_for_all(mode: int) -> bool:
    wanted = needed(mode)
    return mode & mode >> 3 & mode >> 6 & wanted == wanted
