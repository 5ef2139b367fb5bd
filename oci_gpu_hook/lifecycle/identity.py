"""Checks that what runs is the container of a journal entry: it lives, and has the root directory that was changed."""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import InvalidInput, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs


def check_alive(entry: Entry) -> None:
    """Raise InvalidInput unless the container's first process lives."""
    if not entry.is_alive():
        raise InvalidInput(f"container {quoted(entry.id)}", "has ended", "name a running container", "OGH1901")


def check_root(entry: Entry, rootfs: Rootfs) -> None:
    """Raise InvalidInput unless the first process's root is the directory that the GPUs were put into.

    A process may change its root to a volume of the host, which would then be taken for the container's rootfs.
    """
    found = os.fstat(rootfs.fd)
    if (found.st_dev, found.st_ino) != entry.rootfs_identity:
        why = "has another root directory than the one its GPUs were put into"
        raise InvalidInput(f"first process of container {quoted(entry.id)}", why, "restart the container", "OGH1909")
