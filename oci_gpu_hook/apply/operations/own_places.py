"""Adds mountpoints to file systems of the hook's own that a running container has, and removes them.

The container sees such a file system read-only. What is made in it is made through a writable copy of its mount that
nobody else sees, and ends with the file system, so the journal need not know of it.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply.operations import proof
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import ApplyError, UnsafeRootfs, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.process import Process
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.devices.edits import Mount

_BELOW: Final = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_MAGICLINKS
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY


def make(mounts: Sequence[Mount], entry: Entry, process: Process, rootfs: Rootfs) -> None:
    """Make the mountpoints of mounts in the file systems of an entry. Raises UnsafeRootfs, ApplyError."""
    for mount in mounts:
        place = _place(mount.container_path, entry.own_file_systems)
        tree = _writable(place, entry, process, rootfs)
        try:
            _make(tree, mount.container_path[len(place) + 1 :], directory=mount.directory)
        except OSError as error:
            what = f"cannot create {quoted(mount.container_path)} in the container"
            raise ApplyError(what, reason(error), "restart the container", "OGH1507") from None
        finally:
            os.close(tree)


def remove(paths: Sequence[str], entry: Entry, process: Process, rootfs: Rootfs) -> None:
    """Remove mountpoints, and directories that are empty then. What has changed meanwhile is left."""
    for path in paths:
        place = _place(path, entry.own_file_systems)
        try:
            tree = _writable(place, entry, process, rootfs)
        except (ApplyError, UnsafeRootfs):
            continue  # not the hook's any more
        try:
            _remove(tree, path[len(place) + 1 :])
        except OSError:
            continue
        finally:
            os.close(tree)


def _place(path: str, own: Collection[str]) -> str:
    """Return the path of the file system in which a path is."""
    return max((each for each in own if path.startswith(f"{each}/")), key=len)


def _writable(path: str, entry: Entry, process: Process, rootfs: Rootfs) -> int:
    """Return a detached, writable copy of the mount of a file system of the hook's own."""
    remedy = "run `oci-gpu repair` for it first, or restart the container"
    try:
        fd = rootfs.resolve(path, _DIRECTORY)
    except OSError as error:
        raise UnsafeRootfs(f"container path {quoted(path)}", reason(error), remedy, "OGH1602") from None
    try:
        if not proof.is_own_file_system(entry, path, fd, rootfs):
            raise UnsafeRootfs(
                f"container path {quoted(path)}", "is not what the hook mounted there", remedy, "OGH1602"
            )
        tree = process.copy_there(fd)
        try:
            syscalls.clear_mount_attributes(tree, syscalls.MOUNT_ATTR_RDONLY)
        except BaseException:
            os.close(tree)
            raise
    except OSError as error:
        raise ApplyError(f"cannot change {quoted(path)} in the container", reason(error), remedy, "OGH1502") from None
    finally:
        os.close(fd)
    return tree


def _make(tree: int, path: str, *, directory: bool) -> None:
    parent, _, name = path.rpartition("/")
    above = _directory(tree, parent)
    try:
        if directory:
            os.mkdir(name, 0o555, dir_fd=above)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444, dir_fd=above))
    except FileExistsError:
        return
    finally:
        os.close(above)


def _directory(tree: int, path: str) -> int:
    """Return a descriptor of a directory, made with its parents if it is missing."""
    try:
        return syscalls.openat2(tree, path or ".", _DIRECTORY, _BELOW)
    except FileNotFoundError:
        _make(tree, path, directory=True)
    return syscalls.openat2(tree, path, _DIRECTORY, _BELOW)


def _remove(tree: int, path: str) -> None:
    while path:
        parent, _, name = path.rpartition("/")
        above = syscalls.openat2(tree, parent or ".", _DIRECTORY, _BELOW)
        try:
            try:
                os.rmdir(name, dir_fd=above)
            except NotADirectoryError:
                os.unlink(name, dir_fd=above)
        finally:
            os.close(above)
        path = parent
