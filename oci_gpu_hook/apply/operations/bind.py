"""Binds files and directories of the host into the container, by descriptors.

The source's mount is cloned while this process is in the host's namespace. The clone is detached, is made read-only
while nobody can see it, and is then attached to a descriptor. No path is resolved twice.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.apply.rootfs.directory import NoPlace
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import NEW_KERNEL, ApplyError, DriverError, UnsafeRootfs, quoted, reason, shortage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import Final, TypeAlias

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.operations.inspection import Finding, Inspection
    from oci_gpu_hook.apply.operations.place import Attachment, Descriptors, Materializing
    from oci_gpu_hook.apply.operations.preflight import Preflight
    from oci_gpu_hook.apply.process import Process, Site
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.devices.edits import Mount
    from oci_gpu_hook.plan.plan import Plan

    # Clones by container path, and (container path, *syscalls.mount_identity) of each. Only one of these identities
    # proves that a mount is the hook's own.
    Sources: TypeAlias = tuple[Mapping[str, int], tuple[tuple[str, int, int, int, int], ...]]

NAME: Final = "mount"
_PRIVILEGE: Final = "run the hook as root with CAP_SYS_ADMIN, and let no seccomp profile refuse the mount calls to it"
REFRESH: Final = "run `oci-gpu info --refresh`; if the file is missing, install the driver again"
_ATTRIBUTES: Final = {
    "ro": syscalls.MOUNT_ATTR_RDONLY,
    "nosuid": syscalls.MOUNT_ATTR_NOSUID,
    "nodev": syscalls.MOUNT_ATTR_NODEV,
    "noexec": syscalls.MOUNT_ATTR_NOEXEC,
}
_CLEARED: Final = {
    "rw": syscalls.MOUNT_ATTR_RDONLY,
    "suid": syscalls.MOUNT_ATTR_NOSUID,
    "dev": syscalls.MOUNT_ATTR_NODEV,
    "exec": syscalls.MOUNT_ATTR_NOEXEC,
}
RECURSIVE: Final = "rbind"
_SLAVE: Final = frozenset(("slave", "rslave"))

_known: dict[tuple[str, ...], bytes] = {}  # options → struct mount_attr


def prepare(plan: Plan, _site: Site, opened: Descriptors) -> Sources:
    """Clone what the plan mounts, before anything of the container is changed. Raises DriverError, ApplyError."""
    trees = {}
    identity = syscalls.mount_identity
    found = []
    for mount in plan.edits.mounts:
        if mount.type != "tmpfs":
            path = mount.container_path
            tree = trees[path] = opened.keep(clone(mount))
            found.append((path, *identity(tree)))
    return trees, tuple(found)


def preflight(plan: Plan, prepared: Sources | None, seen: Preflight) -> Mapping[str, int]:
    """Inspect the mountpoints, except in file systems of the hook's own, which leave nothing behind."""
    trees, identities = prepared or ({}, ())
    mounts = plan.edits.mounts
    own = tuple([mount.container_path + "/" for mount in mounts if mount.type == "tmpfs"])
    for mount in mounts:
        path = mount.container_path
        if mount.type == "tmpfs" or path.startswith(own):
            continue
        try:
            if mount.directory:
                seen.directory(path)
            else:
                seen.file(path)
        except NoPlace as error:
            if not mount.optional:
                raise
            seen.left_out[path] = error
    left_out = seen.left_out
    seen.mounted = tuple([each for each in identities if each[0] not in left_out]) if left_out else identities
    return trees


def make(plan: Plan, trees: Mapping[str, int], making: Materializing) -> None:
    """Create the mountpoints, and have the clones attached to them."""
    for mount in plan.edits.mounts:
        if mount.type != "tmpfs":
            path = mount.container_path
            making.mount(trees[path], path, directory=mount.directory)


def check(entry: Entry, inspection: Inspection) -> Iterator[Finding]:
    """Yield findings for mounts with a proof in the journal that are gone, or show files that the host has deleted."""
    from oci_gpu_hook.apply.operations import proof  # no start asks

    for path, *_ in entry.mounted:
        fd = inspection.open(path)
        if fd is None:
            yield unmounted(path, inspection)
            continue
        try:
            if not proof.is_own(entry, path, fd):
                yield unmounted(path, inspection)
            elif inspection.is_deleted(fd):
                yield stale(path, inspection, proven=True)
        finally:
            os.close(fd)


def lost(plan: Plan, _entry: Entry, paths: Collection[str]) -> Plan:
    """Return the plan with only those mounts of this kind that are at these paths."""
    kept = [mount for mount in plan.edits.mounts if mount.type == "tmpfs" or mount.container_path in paths]
    return plan.replace(edits=plan.edits.replace(mounts=tuple(kept)))


def without(plan: Plan, paths: Collection[str]) -> Plan:
    """Return the plan without the mounts at these paths."""
    kept = [mount for mount in plan.edits.mounts if mount.container_path not in paths]
    return plan.replace(edits=plan.edits.replace(mounts=tuple(kept)))


def show(_plan: Plan) -> dict[str, object]:
    """Return nothing, since mounts are part of CDI's form."""
    return {}


def clone(mount: Mount) -> int:
    """Return a detached copy of the mount at a host file or directory, private unless its options say `slave`.

    Raises DriverError, ApplyError.
    """
    attributes = _known.get(mount.options)  # a hundred mounts have two different sets of options
    if attributes is None:
        propagation = syscalls.MS_PRIVATE if _SLAVE.isdisjoint(mount.options) else syscalls.MS_SLAVE
        attributes = syscalls.mount_attributes(attributes_of(mount.options), propagation)
        _known[mount.options] = attributes
    try:
        if RECURSIVE in mount.options:
            return syscalls.clone_all_below(mount.host_path, attributes)
        return syscalls.clone_tree(mount.host_path, attributes)
    except OSError as error:
        raise source_failed(mount.host_path, error) from None


def attributes_of(options: Sequence[str]) -> int:
    """Return the MOUNT_ATTR_* bits of mount options, the last of two opposites counting; others add nothing."""
    bits = 0
    for option in options:
        bits = bits & ~_CLEARED.get(option, 0) | _ATTRIBUTES.get(option, 0)
    return bits


def attach(attachments: Sequence[Attachment], attached: list[Attachment]) -> None:
    """Attach detached mounts in order, and add each to `attached`. Raises ApplyError."""
    path = ""
    try:
        for attachment in attachments:
            tree, onto, path = attachment
            syscalls.move_mount(tree, onto)
            attached.append(attachment)
    except OSError as error:
        # ENOTDIR: since the inventory was made, a file became a directory, or a directory a file.
        remedy = {errno.ENOSYS: NEW_KERNEL, errno.ENOTDIR: REFRESH}.get(error.errno or 0, _PRIVILEGE)
        raise ApplyError(f"cannot mount {quoted(path)} in the container", reason(error), remedy, "OGH1502") from None


def source_failed(path: str, error: OSError) -> ApplyError | DriverError:
    """Return the error for a file of the host that cannot be mounted."""
    if short := shortage(error):
        return short
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return DriverError(f"driver file {quoted(path)}", "no longer exists", REFRESH, "OGH1409")
    if error.errno == errno.ENOSYS:
        return ApplyError(
            f"cannot mount {quoted(path)}", "the kernel lacks the mount calls by descriptor", NEW_KERNEL, "OGH1501"
        )
    return ApplyError(f"cannot mount {quoted(path)}", reason(error), _PRIVILEGE, "OGH1502")


def unmounted(path: str, inspection: Inspection) -> Finding:
    """Return the finding for a mount that is gone."""
    from oci_gpu_hook.apply.operations.inspection import Finding

    what = f"{quoted(path)} is not mounted"
    return Finding(kind=NAME, what=what, why="it was unmounted since", remedy=inspection.repair, path=path)


def stale(path: str, inspection: Inspection, *, proven: bool) -> Finding:
    """Return the finding for a mount that shows a file that the host has deleted.

    proven: whether the journal proves that the mount is the hook's. Otherwise it could be anybody's, and the hook must
    not remove it.
    """
    from oci_gpu_hook.apply.operations.inspection import Finding

    why = "shows what the host has deleted or replaced"
    remedy = inspection.repair if proven else "restart the container"
    return Finding(kind=NAME, what=quoted(path), why=why, remedy=remedy, repairable=proven, path=path, stale=True)


def take_away(entry: Entry, path: str, process: Process, rootfs: Rootfs) -> None:
    """Unmount a file that the host has deleted, because nothing can be mounted onto it. Raises UnsafeRootfs.

    The container controls what is at the path by now. So what is there is opened, the journal must prove that it is the
    hook's own mount, and it is unmounted by that descriptor.
    """
    from oci_gpu_hook.apply.operations import proof

    fd = rootfs.resolve(path)
    try:
        if not proof.is_own(entry, path, fd):
            why = "is not the mount that the hook made there"
            remedy = "stop what renames files in the container, or restart it"
            raise UnsafeRootfs(f"container path {quoted(path)}", why, remedy, "OGH1602")
        process.unmount_there((fd,))
    finally:
        os.close(fd)
