"""Mounts small file systems of the hook's own, with generated files and mountpoints in them, over directories.

The tmpfs of a CDI specification is one too; its options say its size and mode.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply.operations import bind
from oci_gpu_hook.apply.rootfs.directory import NoPlace
from oci_gpu_hook.base import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.operations.inspection import Finding, Inspection
    from oci_gpu_hook.apply.operations.place import Descriptors, Materializing
    from oci_gpu_hook.apply.operations.preflight import Preflight
    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.devices.edits import Mount
    from oci_gpu_hook.plan.plan import Plan

NAME: Final = bind.NAME
_OPTIONS: Final = (("mode", "0555"), ("size", "262144"))


def prepare(plan: Plan, _site: Site, opened: Descriptors) -> Mapping[str, int]:
    """Create the file systems, still detached; return them by path. Raises ApplyError."""
    return {
        mount.container_path: opened.keep(_made(mount, plan)) for mount in plan.edits.mounts if mount.type == "tmpfs"
    }


def preflight(plan: Plan, prepared: Mapping[str, int] | None, seen: Preflight) -> Mapping[str, int]:
    """Inspect the directories that they are mounted on. Without such a directory the contents have no place either."""
    for mount in plan.edits.mounts:
        if mount.type == "tmpfs":
            path = mount.container_path
            try:
                seen.directory(path)
            except NoPlace as error:
                if not mount.optional:
                    raise
                inside = [
                    each.container_path for each in plan.edits.mounts if each.container_path.startswith(f"{path}/")
                ]
                seen.left_out |= dict.fromkeys((path, *inside), error)
    trees = prepared or {}
    identity = syscalls.mount_identity
    seen.own_mounted += tuple([(path, *identity(fd)) for path, fd in trees.items() if path not in seen.left_out])
    return trees


def make(plan: Plan, trees: Mapping[str, int], making: Materializing) -> None:
    """Create the directories, and have the file systems attached to them."""
    for mount in plan.edits.mounts:
        if mount.type == "tmpfs":
            making.mount_own(trees[mount.container_path], mount.container_path)


def check(entry: Entry, inspection: Inspection) -> Iterator[Finding]:
    """Yield findings for file systems of the hook's own that are gone, and for mounts of entries without any proof."""
    proven = {proof[0] for proof in entry.mounted}
    for path in entry.mounts:
        if path in proven:
            continue
        fd = inspection.open(path)
        try:
            if fd is None or not _is_mounted(entry, path, fd, inspection):
                yield bind.unmounted(path, inspection)
            elif inspection.is_deleted(fd):
                yield bind.stale(path, inspection, proven=False)
        finally:
            if fd is not None:
                os.close(fd)


def lost(plan: Plan, _entry: Entry, paths: Collection[str]) -> Plan:
    """Return the plan with only the file systems at these paths."""
    kept = [mount for mount in plan.edits.mounts if mount.type != "tmpfs" or mount.container_path in paths]
    return plan.replace(edits=plan.edits.replace(mounts=tuple(kept)))


def without(plan: Plan, paths: Collection[str]) -> Plan:
    """Return the plan without the file systems at these paths, which `bind` removes, and without their files."""
    own = tuple([f"{mount.container_path}/" for mount in plan.edits.mounts if mount.type == "tmpfs"])
    gone = tuple([path for path in own if path[:-1] in paths])
    return plan.replace(files=tuple(file for file in plan.files if not file.path.startswith(gone))) if gone else plan


def show(plan: Plan) -> dict[str, object]:
    """Return the files in them; the mounts are part of CDI's form."""
    files = [{"path": file.path, "contents": file.contents.decode("utf-8", "replace")} for file in plan.files]
    return {"files": files} if files else {}


def _made(mount: Mount, plan: Plan) -> int:
    """Return a detached tmpfs with the generated files and the other mounts' mountpoints that belong into it."""
    prefix = mount.container_path + "/"
    said = tuple((name, value) for name, equals, value in (each.partition("=") for each in mount.options) if equals)
    guards = mount.options if said else ("nosuid", "nodev", "noexec")  # what is said is a CDI specification's
    try:
        tree = syscalls.new_tmpfs(said or _OPTIONS, bind.attributes_of(guards) & ~syscalls.MOUNT_ATTR_RDONLY)
        made: set[str] = set()
        for other in plan.edits.mounts:
            if other.container_path.startswith(prefix):
                path = other.container_path[len(prefix) :]
                if other.directory:
                    _make_directories(tree, path, made)
                else:
                    _make_file(tree, path, b"", made)
        for file in plan.files:
            if file.path.startswith(prefix):
                _make_file(tree, file.path[len(prefix) :], file.contents, made)
        syscalls.mount_setattr(tree, bind.attributes_of(mount.options), syscalls.MS_PRIVATE)
    except OSError as error:
        raise bind.source_failed(mount.container_path, error) from None
    return tree


def _make_directories(tree: int, path: str, made: set[str]) -> None:
    if path and path not in made:
        _make_directories(tree, path.rpartition("/")[0], made)
        os.mkdir(path, 0o555, dir_fd=tree)
        made.add(path)


def _make_file(tree: int, path: str, contents: bytes, made: set[str]) -> None:
    _make_directories(tree, path.rpartition("/")[0], made)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444, dir_fd=tree)
    try:
        os.write(fd, contents)
    finally:
        os.close(fd)


def _is_mounted(entry: Entry, path: str, fd: int, inspection: Inspection) -> bool:
    """Tell whether the hook's file system is mounted at a path.

    Without a proof of it in the entry, anything counts that is mounted there: its mount differs from its directory's.
    """
    if any(proof[0] == path for proof in entry.own_mounted):
        return (path, *syscalls.mount_identity(fd)) in entry.own_mounted
    above = inspection.open(os.path.dirname(path))
    if above is None:
        return False
    try:
        return syscalls.mount_id(above) != syscalls.mount_id(fd)
    finally:
        os.close(above)
