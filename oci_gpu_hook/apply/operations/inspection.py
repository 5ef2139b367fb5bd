"""Inspects a running container from outside; the values of what is found.

The container runs meanwhile and may be hostile. So paths are resolved below its root (`rootfs`), its files are read by
parsers with limits, and what is read only goes into a report.
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
    """Something that a container has lost, with the three parts of an error. repairable: by `oci-gpu repair`.

    path: its path in the container, "" if it has none. stale: a mount of the hook's own is still there, and must be
    removed first. late: it was never there, because the host had not created it yet; if the host still has not, the
    rest is put back all the same.
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
    """An inspection of the container of a journal entry. config: for the path of the host's device nodes.

    repair: the remedy in findings that can be repaired.
    """

    def __init__(self, entry: Entry, process: Process, rootfs: Rootfs, config: Config) -> None:
        self.rootfs = rootfs
        self.config = config
        self.repair = f"run `oci-gpu repair {entry.id}`"
        self._process = process
        self._roots: Mapping[int, bytes] | None = None

    def open(self, path: str) -> int | None:
        """Return an O_PATH descriptor of what a path of the container leads to, None if it leads to nothing."""
        try:
            return self.rootfs.resolve(path)
        except OSError:
            return None

    def status(self, path: str) -> os.stat_result | None:
        """Return the stat(2) result of what a path leads to, None if it leads to nothing."""
        return self.rootfs.status(path)

    def is_deleted(self, fd: int) -> bool:
        """Tell whether the mount of a descriptor shows a file that was deleted on the host."""
        if self._roots is None:
            self._roots = mount_table.roots(self._process.mountinfo())
        return self._roots.get(syscalls.mount_id(fd), b"").endswith(_DELETED)
