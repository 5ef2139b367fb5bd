"""What of a container's rootfs goes when devices are detached: their nodes, or all that was made for it."""

from __future__ import annotations

import os

from oci_gpu_hook.apply import cleanup
from oci_gpu_hook.apply.journal.entry import LD_CACHE
from oci_gpu_hook.apply.operations import proof
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.devices.edits import numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.process import Process
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs

_AT_ONCE: Final = 64  # descriptors that are held open


def take(entry: Entry, paths: Collection[str], process: Process, rootfs: Rootfs, *, everything: bool) -> None:
    """Remove the nodes at these paths, and where everything goes, all mounts and changes of the entry."""
    gone = [*entry.mounts[::-1], LD_CACHE, *paths] if everything else [*paths]
    for start in range(0, len(gone), _AT_ONCE):
        _unmount(gone[start : start + _AT_ONCE], entry, process, rootfs)
    if everything:
        cleanup.clean(rootfs, entry)
    else:
        cleanup.take_back(rootfs, [change for change in entry.changes if change[1] in paths])


def _unmount(paths: Sequence[str], entry: Entry, process: Process, rootfs: Rootfs) -> None:
    """Unmount what the hook mounted at paths, by the descriptors that were judged; nothing that is of the host's."""
    held = []
    try:
        ours = []
        for path in paths:
            try:
                fd = rootfs.resolve(path)
            except OSError:
                continue
            held.append(fd)
            if _is_ours(path, fd, entry, rootfs) and syscalls.mount_id(fd) != rootfs.mount_id:
                ours.append(fd)
        if ours:
            process.unmount_there(ours)  # together: each way into the container's namespace and back takes its time
    finally:
        for fd in held:
            os.close(fd)


def _is_ours(path: str, fd: int, entry: Entry, rootfs: Rootfs) -> bool:
    return proof.is_own(entry, path, fd) or _is_own_file_system(entry, path, fd, rootfs) or _is_node(fd, entry)


def _is_own_file_system(entry: Entry, path: str, fd: int, rootfs: Rootfs) -> bool:
    is_one = path in entry.own_file_systems or (path == LD_CACHE and bool(entry.ld_cache) and not entry.cached)
    return is_one and proof.is_own_file_system(entry, path, fd, rootfs)


def _is_node(fd: int, entry: Entry) -> bool:
    return numbers_of(os.fstat(fd)) in entry.nodes
