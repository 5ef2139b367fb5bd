"""Tells whether a mount in a running container is the hook's own, by what the journal has of it.

It stands alone because `detach` needs no more of the kinds of edits, whose modules take as long to import as it works.
"""

from __future__ import annotations

from oci_gpu_hook.base import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs


def is_own(entry: Entry, path: str, fd: int) -> bool:
    """Tell by the journal's proof whether a descriptor refers to the mount that the hook made at a path."""
    return (path, *syscalls.mount_identity(fd)) in entry.mounted


def is_own_file_system(entry: Entry, path: str, fd: int, rootfs: Rootfs) -> bool:
    """Tell whether a descriptor refers to the file system that the hook has mounted at a path.

    The journal has the mount's identity. Where it has none, because an older version has written the entry, or before
    Linux 6.15 for an ld cache, any tmpfs there counts that is not the host's.
    """
    if any(known[0] == path for known in entry.own_mounted):
        return (path, *syscalls.mount_identity(fd)) in entry.own_mounted
    mount = syscalls.mount_id(fd)
    is_tmpfs = syscalls.file_system_type(fd) == syscalls.TMPFS_MAGIC
    return is_tmpfs and mount != rootfs.mount_id and not rootfs.is_of_host(mount)
