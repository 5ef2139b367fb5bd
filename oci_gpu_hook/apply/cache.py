"""The container's /etc/ld.so.cache: where this project's version of it goes.

On an engine's private overlay the file is exchanged for a new one, as ldconfig does it, so that ldconfig works in the
container afterwards. On any other rootfs, which others may share, and on a read-only one, the new file is mounted over
the image's, which stays untouched; ldconfig in the container then fails with "Device or resource busy".
"""

from __future__ import annotations

import os

from oci_gpu_hook import ldcache, state
from oci_gpu_hook.apply import mounts, syscalls
from oci_gpu_hook.apply.mounts import Attachment
from oci_gpu_hook.apply.rootfs import cannot_create
from oci_gpu_hook.edits import Mount
from oci_gpu_hook.errors import ApplyError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.apply.rootfs import Rootfs
    from oci_gpu_hook.plan import CachedLibrary

PATH: Final = "/etc/ld.so.cache"
_NAME: Final = "ld.so.cache"
_NEW: Final = ".ld.so.cache.oci-gpu-hook"
_LARGEST: Final = 16 * 1024 * 1024


def merged(image_cache: bytes, libraries: Sequence[CachedLibrary]) -> bytes:
    """Return the image's cache with the libraries in it, before what the image has by the same names."""
    machine = syscalls.MACHINE
    entries = [
        ldcache.Entry(name=library.name, path=library.path, flags=ldcache.flags_for(machine, library.bits))
        for library in libraries
    ]
    return ldcache.merge(image_cache, entries)


def is_private(rootfs: Rootfs, *, read_only: bool) -> bool:
    """Tell whether the file may be exchanged in place: on an overlay, which an engine made for this container alone."""
    if read_only or rootfs.is_volume(PATH):
        return False
    directory = rootfs.directory("/etc")
    if directory is None:
        return False
    try:
        return syscalls.file_system_type(directory) == syscalls.OVERLAYFS_SUPER_MAGIC
    finally:
        os.close(directory)


def exchange(rootfs: Rootfs, data: bytes) -> None:
    """Put a new file in the place of the rootfs's cache, atomically. Raises ApplyError."""
    directory = rootfs.make_directory("/etc")
    try:
        rootfs.refuse_volume(directory, PATH)
        _unlink_new(directory)
        rootfs.make_file(directory, _NEW, f"/etc/{_NEW}", data)
        os.rename(_NEW, _NAME, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        raise cannot_create(PATH, error) from None
    finally:
        os.close(directory)


def restore(rootfs: Rootfs, paths: Sequence[str]) -> None:
    """Take the libraries out of a cache that was exchanged, whoever has written it since."""
    found = rootfs.read(PATH, _LARGEST)
    try:
        kept = ldcache.remove(found, frozenset(paths)) if found else found
    except ldcache.LdCacheError:
        kept = found  # not a cache any more: nothing of the hook's is in it
    if kept != found:
        exchange(rootfs, kept)
    else:
        _drop_new(rootfs)  # of a hook that was killed before it could put it in its place


def _drop_new(rootfs: Rootfs) -> None:
    directory = rootfs.directory("/etc")
    if directory is not None:
        try:
            if not rootfs.in_volume(directory):
                _unlink_new(directory)
        finally:
            os.close(directory)


def _unlink_new(directory: int) -> None:
    try:
        os.unlink(_NEW, dir_fd=directory)
    except FileNotFoundError:
        pass


def prepare_mount(rootfs: Rootfs, data: bytes, path: str) -> Attachment:
    """Return the new file as a mount for the place of the image's, which must exist. Raises ApplyError.

    path: of a state file that holds the data until it is attached, since the kernel attaches nothing that is unlinked;
    after that the container's mount keeps it.
    """
    try:
        state.write(path, data, mode=0o644)
        mount = Mount(host_path=path, container_path=PATH, options=("ro", "nosuid", "nodev", "noexec"))
        tree = mounts.clone_file(mount)
        return Attachment(tree=tree, onto=rootfs.resolve(PATH), path=PATH)
    except OSError as error:
        remedy = "make room in the state directory; [state] dir in config.toml names another"
        raise ApplyError("cannot write the container's ld cache", reason(error), remedy) from None
