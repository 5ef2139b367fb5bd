"""A running container looked at from outside, and what is found missing.

The container runs while it is looked at and may be hostile: paths are resolved below its root (`rootfs`), its files are
read through bounded parsers, and no answer leads anywhere but into a report.
"""

from __future__ import annotations

from oci_gpu_hook.base import mount_table, syscalls
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.process import Process
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.model import Config

_DELETED: Final = b"//deleted"  # fs/proc_namespace.c, show_mountinfo, by fs/dcache.c: the mount's root was unlinked


class Finding(Record):
    """Something that a container has lost, in the three parts of an error. repairable: by `oci-gpu repair`.

    path: where it was in the container, "" for what is at no path. stale: a mount of the hook's own is still there,
    and has to be taken away first. late: it was never there, because the host had not made it yet; that it still has
    not keeps nobody from putting back the rest.
    """

    kind: str
    what: str
    why: str
    remedy: str
    repairable: bool = True
    path: str = ""
    stale: bool = False
    late: bool = False

    def __str__(self) -> str:
        return str(HookError(self.what, self.why, self.remedy))


class Inspection:
    """A look at the container of a journal entry. config: says where the host's device nodes are.

    repair: the remedy for all that can be put back.
    """

    def __init__(self, entry: Entry, process: Process, rootfs: Rootfs, config: Config) -> None:
        self.rootfs = rootfs
        self.config = config
        self.repair = f"run `oci-gpu repair {entry.id}`"
        self._process = process
        self._roots: Mapping[int, bytes] | None = None

    def open(self, path: str) -> int | None:
        """Return an O_PATH descriptor of what a path of the container leads to, None for nothing."""
        try:
            return self.rootfs.resolve(path)
        except OSError:
            return None

    def status(self, path: str) -> os.stat_result | None:
        """Return what stat(2) tells of what a path leads to, None for nothing."""
        return self.rootfs.status(path)

    def is_deleted(self, fd: int) -> bool:
        """Tell whether the mount by which a descriptor was reached shows what is deleted on the host."""
        if self._roots is None:
            self._roots = mount_table.roots(self._process.mountinfo())
        return self._roots.get(syscalls.mount_id(fd), b"").endswith(_DELETED)
