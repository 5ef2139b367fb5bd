"""Gives the container its /etc/ld.so.cache.

On an engine's private overlay the file is replaced by a new one, as ldconfig does, so that ldconfig works in the
container afterwards. On any other rootfs, which containers may share, and on a read-only one, the new file is mounted
over the image's, which stays unchanged; then ldconfig in the container fails with "Device or resource busy".
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.apply.journal import changes
from oci_gpu_hook.apply.journal.entry import LD_CACHE
from oci_gpu_hook.apply.operations import bind
from oci_gpu_hook.apply.rootfs.directory import Directories, NoPlace, cannot_create
from oci_gpu_hook.base import limits, log, syscalls
from oci_gpu_hook.base.errors import ApplyError, quoted, reason, shortage
from oci_gpu_hook.base.files import replace_file
from oci_gpu_hook.base.formats import ldcache
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.edits import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.operations.inspection import Finding, Inspection
    from oci_gpu_hook.apply.operations.place import Descriptors, Materializing
    from oci_gpu_hook.apply.operations.preflight import Preflight
    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.formats.ldcache import Entry as Library
    from oci_gpu_hook.plan.plan import Plan

NAME: Final = "ld-cache"
PATH: Final = LD_CACHE
_NAME: Final = "ld.so.cache"
NEW_PATH: Final = "/etc/.ld.so.cache.oci-gpu-hook"  # until it replaces the old file
_NEW: Final = os.path.basename(NEW_PATH)


class Decided(Record):
    """What is done to a container's ld cache. data: the new cache, b"" if it gets none.

    exchanged: whether the file in the rootfs is replaced; otherwise the new one is mounted over it. added: paths that
    are added to the file in the rootfs, and must be removed later. mount: the new file as a detached mount, None where
    that takes a state file.
    """

    data: bytes = b""
    exchanged: bool = False
    added: tuple[str, ...] = ()
    mount: int | None = None


def prepare(plan: Plan, _site: Site, opened: Descriptors) -> tuple[tuple[bytes, bool], Descriptors]:
    """Return the result of `contents`, and what keeps the mount open that `preflight` may make."""
    return contents(plan), opened


def preflight(plan: Plan, prepared: tuple[tuple[bytes, bool], Descriptors] | None, seen: Preflight) -> Decided:
    """Return what will be done to the ld cache; inspect the mountpoint if a new file will be mounted.

    The mount is made here, still detached, because the journal is to have its identity. Raises ApplyError.
    """
    (data, exchangeable), opened = prepared or (contents(plan), None)
    if exchangeable and _is_private(seen.rootfs, seen.directories, read_only=seen.root_readonly):
        found = plan.image.ld_cache
        added = tuple(library.path for library in _additions(plan) if os.fsencode(library.path) not in found)
        seen.changes.append(changes.file(NEW_PATH, passing=False))
        seen.cached = added
        return Decided(data=data, exchanged=True, added=added)
    if data:
        try:
            seen.file(PATH)
        except NoPlace as error:
            if not plan.image.searched:
                instead = f"{error.remedy}; or set LD_LIBRARY_PATH={plan.image.library_directory} in the container"
                raise NoPlace(error.what, error.why, instead, error.code) from None
            seen.left_out[PATH] = error
            data = b""
    mount = opened.keep(made) if data and opened and (made := _mounted(data)) is not None else None
    if mount is not None:
        seen.own_mounted += ((PATH, *syscalls.mount_identity(mount)),)
    return Decided(data=data, mount=mount)


def make(_plan: Plan, decided: Decided, making: Materializing) -> None:
    """Replace the cache, or have the mount with the new one attached. Raises HookError."""
    if decided.exchanged:
        exchange(making.directories, decided.data)  # the directories that `preflight` has checked
    elif decided.data:
        mount = decided.mount
        if mount is None:
            mount = making.keep(_mounted_by_file(decided.data, making.state_file))
        making.mount(mount, PATH, directory=False)


def contents(plan: Plan) -> tuple[bytes, bool]:
    """Return the container's new cache, b"" for none, and whether it may replace the image's file.

    It is the image's cache with the plan's libraries first. musl reads no cache; a glibc image without a cache gets
    one.
    """
    if not is_wanted(plan):
        return b"", False
    found = plan.image.ld_cache
    additions = _additions(plan)
    try:
        return ldcache.merge(found, additions), bool(found)
    except ldcache.LdCacheError as error:
        # The loader cannot use such a file either. It stays in the image, and a correct one is mounted over it.
        log.warning("image's ld cache is unusable", path=PATH, reason=str(error))
        return ldcache.build(additions), False


def _additions(plan: Plan) -> tuple[Library, ...]:
    """Return the entries to add to the image's: first those of the plan, then those that the image's cache lacks."""
    if not plan.image.unlisted:
        return plan.ld_cache
    names = {library.name for library in plan.ld_cache}
    return (*plan.ld_cache, *(library for library in plan.image.unlisted if library.name not in names))


def is_wanted(plan: Plan) -> bool:
    """Tell whether the container should have an ld cache with the plan's libraries."""
    return bool(plan.ld_cache) and (bool(plan.image.ld_cache) or plan.image.libc == "glibc")


def _is_private(rootfs: Rootfs, directories: Directories, *, read_only: bool) -> bool:
    """Tell whether the file may be replaced: only on an overlay, which an engine made for this container alone."""
    if read_only:
        return False
    etc = directories.find("/etc")
    if etc is None:
        return False
    return syscalls.file_system_type(etc.fd) == syscalls.OVERLAYFS_SUPER_MAGIC and not rootfs.is_volume(PATH)


def exchange(directories: Directories, data: bytes) -> None:
    """Replace the rootfs's cache atomically. Raises ApplyError."""
    etc = directories.make("/etc")
    etc.refuse_volume(_NAME)
    try:
        _unlink_new(etc.fd)
        os.close(etc.make_file(_NEW, data))
        os.rename(_NEW, _NAME, src_dir_fd=etc.fd, dst_dir_fd=etc.fd)
    except OSError as error:
        raise cannot_create(PATH, error) from None


def restore(rootfs: Rootfs, paths: Sequence[str]) -> None:
    """Remove the libraries from a cache that was replaced, even if another program has written it since."""
    with Directories(rootfs) as directories:
        etc = directories.find("/etc")
        if etc is None or rootfs.is_of_host(etc.mount_id):
            return
        found = etc.read(_NAME, limits.LD_CACHE)
        try:
            kept = ldcache.remove(found, frozenset(paths)) if found else found
        except ldcache.LdCacheError:
            kept = found  # no longer an ld cache, so it has no entries of the hook
        if kept != found:
            exchange(directories, kept)
        else:
            _unlink_new(etc.fd)  # left by a hook that was killed before it could rename the file


def _unlink_new(directory: int) -> None:
    try:
        os.unlink(_NEW, dir_fd=directory)
    except FileNotFoundError:
        pass


def _mounted(data: bytes) -> int | None:
    """Return the new file as a detached mount; None before Linux 6.15, which clones none that is detached.

    Raises ApplyError. The file is in its own file system, which has just enough room and ends with the container,
    so a large cache takes no space in the state directory.
    """
    try:
        return own_mount(data)
    except OSError as error:
        if error.errno != errno.EINVAL:
            remedy = "check that the kernel has tmpfs"
            raise shortage(error) or ApplyError(
                "cannot make the container's ld cache", reason(error), remedy, "OGH1507"
            ) from None
    return None


def _mounted_by_file(data: bytes, path: str) -> int:
    """Return the new file as a detached mount, by way of a state file at `path`. Raises ApplyError.

    The file is removed once it is attached; the container's mount keeps the data.
    """
    try:
        replace_file(path, data, mode=0o644)
    except OSError as error:
        remedy = "make room in the state directory; [state] dir in config.toml names another"
        raise ApplyError("cannot write the container's ld cache", reason(error), remedy, "OGH1506") from None
    return bind.clone(Mount(host_path=path, container_path=PATH, options=("ro", "nosuid", "nodev", "noexec")))


def own_mount(data: bytes, hung: Callable[[int], AbstractContextManager[None]] | None = None) -> int:
    """Return a detached mount of a file with that data, alone in its file system. Raises OSError.

    hung: mounts the file system somewhere for the moment in which its file is cloned; None if that is not necessary.
    """
    room = (("mode", "0555"), ("size", str(len(data))), ("nr_inodes", "2"))
    options = ("ro", "nosuid", "nodev", "noexec")
    tree = syscalls.new_tmpfs(room, bind.attributes_of(options[1:]))
    try:
        fd = os.open(_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=tree)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        if hung is None:
            mount = syscalls.clone_file_in(tree, _NAME)
        else:
            with hung(tree):
                mount = syscalls.clone_file_in(tree, _NAME)
        try:
            syscalls.mount_setattr(mount, bind.attributes_of(options), syscalls.MS_PRIVATE)
        except OSError:
            os.close(mount)
            raise
        return mount
    finally:
        os.close(tree)


def check(entry: Entry, inspection: Inspection) -> Iterator[Finding]:
    """Yield a finding if the ld cache does not list what it should."""
    from oci_gpu_hook.apply.operations.inspection import Finding

    data = inspection.rootfs.read(PATH, limits.LD_CACHE)
    missing = [path for path in entry.ld_cache if path.encode() + b"\0" not in data]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        what = f"the ld cache does not list {quoted(missing[0])}{more}"
        why = "it was rewritten since" if data else "it is gone"
        yield Finding(kind=NAME, what=what, why=why, remedy=inspection.repair, path=PATH)


def lost(plan: Plan, entry: Entry, paths: Collection[str]) -> Plan:
    """Return the plan with all libraries that its ld cache should list if any is lost: the cache is written whole."""
    listed = frozenset(entry.ld_cache) if paths else frozenset()
    return plan.replace(ld_cache=tuple(library for library in plan.ld_cache if library.path in listed))


def without(plan: Plan, paths: Collection[str]) -> Plan:
    """Return the plan without libraries to list, if the cache has no place."""
    return plan.replace(ld_cache=()) if PATH in paths else plan


def show(plan: Plan) -> dict[str, object]:
    """Return the paths that the ld cache will list."""
    return {"ldCache": [library.path for library in plan.ld_cache]}
