"""Changing a container from inside its mount namespace, as a hook of the stage createContainer does.

The engine makes the container; what is added here are links in its rootfs, and mounts that end with its namespace. So
there is no journal, and nothing to take back at its end. Where anything fails, the engine ends the container.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply.operations import bind, ld_cache, table
from oci_gpu_hook.apply.operations.place import Descriptors, Materializing, Preflight
from oci_gpu_hook.apply.operations.table import KINDS
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import ApplyError, InvalidInput, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.apply.process import Process, Site
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.plan.plan import Plan


def check_namespace() -> None:
    """Raise InvalidInput where this process is in the host's mount namespace: it would change the host.

    Where the host's first process may not be looked at, as in a user namespace, nothing can be told.
    """
    try:
        of_host = os.stat("/proc/1/ns/mnt").st_ino
    except OSError:
        return
    if os.stat("/proc/self/ns/mnt").st_ino == of_host:
        what = "the CDI hook's mount namespace"
        remedy = "run it as a createContainer hook only, as the CDI specification has it"
        raise InvalidInput(what, "is the host's, and no container's", remedy)


def carry_out(plan: Plan, site: Site) -> tuple[str, ...]:
    """Make the plan's links, and mount its file systems and its ld cache; return warnings. Raises HookError."""
    os.umask(0)  # modes are set when files are made
    data, _ = ld_cache.contents(plan)
    kinds = [kind for kind in KINDS if kind is not ld_cache]
    try:
        with _Writable(site.rootfs), Descriptors() as opened, Directories(site.rootfs) as directories:
            prepared = [kind.prepare(plan, site, opened) for kind in kinds]
            shared = site.process.shared_mounts() - {site.rootfs.mount_id}
            seen = Preflight(site.rootfs, directories, shared, root_readonly=False)
            plan, looked = table.look(plan, prepared, seen, kinds)
            making = Materializing(site, directories, seen.absent, opened, state_file="")
            for kind, own in zip(kinds, looked, strict=True):
                kind.make(plan, own, making)
            if data:
                etc = directories.make(os.path.dirname(ld_cache.PATH)).fd
                making.mount(opened.keep(_in_memory(data, etc, site.process)), ld_cache.PATH, directory=False)
            bind.attach(making.attachments, [])
            return table.warnings(seen)
    except OSError as error:
        why = reason(error)
        raise ApplyError("cannot change the container's files", why, "look at the permissions of its rootfs") from None


class _Writable:
    """A rootfs that can be written to, for a `with` block: crun makes it read-only before it runs this stage's hooks.

    Nothing of the container runs yet.
    """

    def __init__(self, rootfs: Rootfs) -> None:
        self._fd = rootfs.fd
        self._was_read_only = bool(os.fstatvfs(rootfs.fd).f_flag & os.ST_RDONLY)

    def __enter__(self) -> None:
        if self._was_read_only:
            syscalls.clear_mount_attributes(self._fd, syscalls.MOUNT_ATTR_RDONLY)

    def __exit__(self, *_exception: object) -> None:
        if self._was_read_only:
            syscalls.mount_setattr(self._fd, syscalls.MOUNT_ATTR_RDONLY)


def _in_memory(data: bytes, directory: int, process: Process) -> int:
    """Return a file in memory as a detached mount, which keeps it.

    The kernel clones nothing of a mount that hangs nowhere, so its file system is mounted on a directory for a moment.
    """
    name = "file"
    options = (("mode", "0555"), ("size", str(len(data) + (1 << 16))), ("nr_inodes", "4"))
    flags = bind.attributes_of(("nosuid", "nodev", "noexec"))
    tree = syscalls.new_tmpfs(options, flags)
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444, dir_fd=tree)
        with open(fd, "wb") as file:
            file.write(data)
        syscalls.move_mount(tree, directory)
        try:
            found = syscalls.clone_file_in(tree, name)
        finally:
            process.unmount(tree)
    finally:
        os.close(tree)
    syscalls.mount_setattr(found, flags | bind.attributes_of(("ro",)), syscalls.MS_PRIVATE)
    return found
