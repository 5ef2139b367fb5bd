"""What a running container still has of what it was given, looked up from outside.

The container runs while it is looked at and may be hostile: paths are resolved below its root (`rootfs`), its files are
read through bounded parsers, and no answer of this module leads anywhere but into a report.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply import ld_cache
from oci_gpu_hook.apply.device_access import cgroup
from oci_gpu_hook.apply.journal.changes import LINK
from oci_gpu_hook.apply.systemd import drop_in
from oci_gpu_hook.base import limits, mount_table, syscalls
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.process import Process
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs

    Node = tuple[int, int]  # major, minor of a character device

_DELETED: Final = b"//deleted"  # fs/proc_namespace.c, show_mountinfo, by fs/dcache.c: the mount's root was unlinked


class Condition(Record):
    """What was found.

    nodes: path → numbers of the device there, None where there is none. refused: those of the entry's nodes that the
    device cgroup refuses. unit: the systemd unit that restricts devices, "" for none; covered: whether its drop-in
    allows the nodes. unmounted: of the entry's mounts, those that are not at their paths. stale: those whose file or
    directory on the host is deleted. links: paths of links that are gone or lead elsewhere. uncached: of the entry's
    ld cache. has_cache: whether there is an ld cache at all.
    """

    nodes: Mapping[str, Node | None]
    refused: tuple[Node, ...]
    unit: str
    covered: bool
    unmounted: tuple[str, ...]
    stale: tuple[str, ...]
    links: tuple[str, ...]
    uncached: tuple[str, ...]
    has_cache: bool = True


def look(entry: Entry, process: Process, rootfs: Rootfs) -> Condition:
    """Look at the container of a journal entry. Raises HookError, OSError."""
    found = cgroup.find(entry.pid, entry.cgroups_path)
    try:
        refused = cgroup.refused(found, entry.nodes)
        unit = drop_in.restricted_unit(found.path)
    finally:
        found.close()
    unmounted, stale = _mounts(entry, process, rootfs)
    data = rootfs.read(ld_cache.PATH, limits.LD_CACHE)
    return Condition(
        nodes={path: _node(rootfs, path) for path in entry.node_paths},
        refused=refused,
        unit=unit,
        covered=not unit or drop_in.covers(unit, entry.nodes),
        unmounted=unmounted,
        stale=stale,
        links=tuple(
            path
            for kind, path, target, *_ in entry.changes
            if kind == LINK and target and not _leads(rootfs, path, target)
        ),
        uncached=tuple(path for path in entry.ld_cache if path.encode() + b"\0" not in data),
        has_cache=bool(data),
    )


def _node(rootfs: Rootfs, path: str) -> Node | None:
    fd = _open(rootfs, path)
    if fd is None:
        return None
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    return (os.major(status.st_rdev), os.minor(status.st_rdev)) if stat.S_ISCHR(status.st_mode) else None


def _leads(rootfs: Rootfs, path: str, target: str) -> bool:
    """Tell whether a link that the hook made is there and leads where it did."""
    directory, name = os.path.split(path)
    fd = _open(rootfs, directory)
    if fd is None:
        return False
    try:
        return os.readlink(name, dir_fd=fd) == target
    except OSError:
        return False
    finally:
        os.close(fd)


def _mounts(entry: Entry, process: Process, rootfs: Rootfs) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which of the entry's mounts are missing, and which show what is deleted on the host."""
    roots = mount_table.roots(process.mountinfo())
    unmounted, stale = [], []
    for path in entry.mounts:
        fd = _open(rootfs, path)
        if fd is None:
            unmounted.append(path)
            continue
        try:
            if not (is_own(entry, path, fd) or _is_unproven(entry, path, fd, rootfs)):
                unmounted.append(path)
            elif roots.get(syscalls.mount_id(fd), b"").endswith(_DELETED):
                stale.append(path)
        finally:
            os.close(fd)
    return tuple(unmounted), tuple(stale)


def is_own(entry: Entry, path: str, fd: int) -> bool:
    """Tell whether what a descriptor stands for is the mount that the hook made for a path, by the journal's proof."""
    return (path, *syscalls.mount_identity(fd)) in entry.mounted


def _is_unproven(entry: Entry, path: str, fd: int, rootfs: Rootfs) -> bool:
    """Tell whether something is mounted there of which the journal has no proof.

    File systems of the hook's own have none, and nothing has in the entry of an older hook.
    """
    if path in [proof[0] for proof in entry.mounted]:
        return False
    above = _open(rootfs, os.path.dirname(path))
    if above is None:
        return False
    try:
        return syscalls.mount_id(above) != syscalls.mount_id(fd)
    finally:
        os.close(above)


def _open(rootfs: Rootfs, path: str) -> int | None:
    try:
        return rootfs.resolve(path)
    except OSError:
        return None
