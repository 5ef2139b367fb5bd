"""Joins edits, and completes them from the host, by the rules of CDI's own library.

NVIDIA's edits are already complete, so no start of a container with NVIDIA's devices imports this module.

Source: cncf-tags/container-device-interface, pkg/cdi/container-edits.go (Append, Apply) and container-edits_unix.go
(fillMissingInfo).
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.errors import DriverError, quoted, reason
from oci_gpu_hook.devices.edits import UNSAID, ContainerEdits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Final, TypeVar

    from oci_gpu_hook.devices.edits import DeviceNode, Mount

    T = TypeVar("T")

_ALL_PERMISSIONS: Final = "rwm"
_FOR_ALL: Final = 0o666  # the mode that runtimes make a node with where none is given
_TYPES: Final = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}
_BINDS: Final = ("", "bind", "none")  # types of mounts that show something of the host
_BOUND: Final = frozenset(("bind", "rbind"))
_SAME_AS: Final = {"u": "c"}  # an unbuffered character device is a character device


def merged(*edits: ContainerEdits) -> ContainerEdits:
    """Join edits. Of two edits for one place only the later one counts, at its position.

    A place is a node's path, a mount's container path, a network device's interface, or a variable's name. The group 0
    is no group to add, as in CDI's own library.
    """
    return ContainerEdits(
        env=_last((entry for each in edits for entry in each.env), lambda entry: entry.partition("=")[0]),
        device_nodes=_last((node for each in edits for node in each.device_nodes), lambda node: node.path),
        net_devices=_last((net for each in edits for net in each.net_devices), lambda net: net.host_interface_name),
        mounts=_last((mount for each in edits for mount in each.mounts), lambda mount: mount.container_path),
        hooks=tuple(dict.fromkeys(hook for each in edits for hook in each.hooks)),
        additional_gids=tuple(dict.fromkeys(gid for each in edits for gid in each.additional_gids if gid)),
        intel_rdt=next((each.intel_rdt for each in reversed(edits) if each.intel_rdt is not None), None),
    )


def filled(node: DeviceNode, *, uid: int = 0, gid: int = 0) -> DeviceNode:
    """Return the node, completed from the host's node and from the container's user and group.

    If type and numbers are given, no node on the host is needed. Raises DriverError if the host's node is needed and
    missing, or if its type or numbers differ from the given ones.
    """
    host_path = node.host_path or node.path
    node = node.replace(
        host_path=host_path,
        permissions=node.permissions or _ALL_PERMISSIONS,
        uid=uid if node.uid == UNSAID else node.uid,
        gid=gid if node.gid == UNSAID else node.gid,
    )
    is_complete = bool(node.type) and (node.type == "p" or UNSAID not in (node.major, node.minor))
    try:
        found = os.lstat(host_path)
    except OSError as error:
        if is_complete:
            return node
        raise _unusable(host_path, reason(error)) from None
    if node.file_mode == UNSAID:
        node = node.replace(file_mode=stat.S_IMODE(found.st_mode))
    return node if is_complete else _identified(node, found, host_path)


def owned(edits: ContainerEdits, uid: int, gid: int) -> ContainerEdits:
    """Return edits whose nodes have an owner, a group and a mode: their author's, else what the process needs.

    uid, gid: of the process. Where that is root, a node keeps the owner and group that it has on the host.
    """
    return edits.replace(device_nodes=tuple(_owned(node, uid, gid) for node in edits.device_nodes))


def _owned(node: DeviceNode, uid: int, gid: int) -> DeviceNode:
    if UNSAID not in (node.uid, node.gid, node.file_mode):
        return node.replace(file_mode=stat.S_IMODE(node.file_mode))  # some authors write the file type's bits, too
    try:
        found = os.lstat(node.host_path or node.path)
        of_host = found.st_uid, found.st_gid
    except OSError:
        of_host = 0, 0
    return node.replace(
        uid=(uid or of_host[0]) if node.uid == UNSAID else node.uid,
        gid=(gid or of_host[1]) if node.gid == UNSAID else node.gid,
        file_mode=_FOR_ALL if node.file_mode == UNSAID else stat.S_IMODE(node.file_mode),
    )


def placed(mount: Mount) -> Mount:
    """Return the mount with whether it goes onto a directory. Raises DriverError where it is nothing of the host."""
    if os.path.normpath(f"/{mount.container_path}").strip("/") == "":
        raise _unmountable(mount, "would hide all that the container has, since its place there is /")
    if mount.type not in _BINDS and not _BOUND.intersection(mount.options):
        options = mount.options
        if mount.type == "tmpfs" and not any(option.startswith("mode=") for option in options):
            options = (*options, "mode=1777")
        return mount.replace(options=options, directory=True)
    if not mount.host_path.startswith("/"):
        raise _unmountable(mount, "is not a path from / on, and could mean any")
    try:
        found = os.stat(mount.host_path)
    except OSError as error:
        raise _unmountable(mount, reason(error)) from None
    return mount.replace(directory=stat.S_ISDIR(found.st_mode))


def _identified(node: DeviceNode, found: os.stat_result, host_path: str) -> DeviceNode:
    """Return the node with the type and numbers of the host's."""
    kind = _TYPES.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        raise _unusable(host_path, "is not a device node")
    if node.type and _SAME_AS.get(node.type, node.type) != kind:
        raise _unusable(host_path, f"is of type {kind}, but the specification says {node.type}")
    node = node.replace(type=node.type or kind)
    if kind == "p":
        return node
    major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    for name, said, number in (("major", node.major, major), ("minor", node.minor, minor)):
        if said not in (UNSAID, number):
            raise _unusable(host_path, f"has the {name} number {number}, but the specification says {said}")
    return node.replace(major=major, minor=minor)


def _unusable(host_path: str, why: str) -> DriverError:
    return DriverError(
        f"device node {quoted(host_path)}", why, "correct the CDI specification, or load the driver", "OGH1408"
    )


def _unmountable(mount: Mount, why: str) -> DriverError:
    remedy = "correct the CDI specification, or install what it names"
    return DriverError(f"mount of {quoted(mount.host_path)}", why, remedy, "OGH1408")


def _last(entries: Iterable[T], place: Callable[[T], str]) -> tuple[T, ...]:
    found: dict[str, T] = {}
    for entry in entries:
        found.pop(place(entry), None)
        found[place(entry)] = entry
    return tuple(found.values())
