"""Changes a container from inside its mount namespace, as a createContainer hook.

The engine sets up the container; this module adds links in its rootfs, and mounts that end with its namespace. So there
is no journal, and nothing to undo at its end. If anything fails, the engine ends the container.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.apply import transaction
from oci_gpu_hook.apply.operations import bind, ld_cache, table
from oci_gpu_hook.apply.operations.place import Descriptors, Materializing
from oci_gpu_hook.apply.operations.preflight import Preflight
from oci_gpu_hook.apply.operations.table import KINDS
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import ApplyError, InvalidInput, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.plan.plan import Plan


def check_namespace() -> None:
    """Raise InvalidInput if this process is in the host's mount namespace, where it would change the host.

    If the host's first process cannot be inspected, as in a user namespace, the check passes.
    """
    try:
        of_host = os.stat("/proc/1/ns/mnt").st_ino
    except OSError:
        return
    if os.stat("/proc/self/ns/mnt").st_ino == of_host:
        what = "the CDI hook's mount namespace"
        remedy = "run it as a createContainer hook only, as the CDI specification has it"
        raise InvalidInput(what, "is the host's, not a container's", remedy, "OGH1005")


def carry_out(plan: Plan, site: Site) -> tuple[str, ...]:
    """Create the plan's links, and mount its file systems and its ld cache; return warnings. Raises HookError."""
    os.umask(0)  # modes are set when files are created
    rootfs = site.rootfs
    try:
        with _Writable(rootfs), Descriptors() as opened, Directories(rootfs) as directories:
            kinds = [kind for kind in KINDS if kind is not ld_cache]
            prepared = [kind.prepare(plan, site, opened) for kind in kinds]
            shared = site.process.shared_mounts() - {rootfs.mount_id}
            seen = Preflight(rootfs, directories, shared, root_readonly=False)
            plan, looked = table.look(plan, prepared, seen, kinds)
            data, _ = ld_cache.contents(plan)
            if data:
                seen.file(ld_cache.PATH)
            transaction.leave_peers(site.process, rootfs)
            making = Materializing(site, directories, seen.absent, opened, state_file="")
            for kind, own in zip(kinds, looked, strict=True):
                kind.make(plan, own, making)
            if data:
                etc = directories.make(os.path.dirname(ld_cache.PATH)).fd
                making.mount(making.keep(_in_memory(data, etc, site)), ld_cache.PATH, directory=False)
            transaction.refuse_shared(making.attachments, site.process, rootfs)
            bind.attach(making.attachments, [])
            return table.warnings(seen)
    except OSError as error:
        why = reason(error)
        raise ApplyError(
            "cannot change the container's files", why, "look at the permissions of its rootfs", "OGH1507"
        ) from None


class _Writable:
    """Makes a rootfs writable for a `with` block: crun makes it read-only before it runs the hooks of this stage.

    No process of the container runs yet.
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


def _in_memory(data: bytes, directory: int, site: Site) -> int:
    """Return a file in memory, as a detached mount. Raises OSError.

    Before Linux 6.15 the kernel clones nothing from a detached mount. Its file system is then mounted on a directory of
    the container for a moment, while no process of the container runs.
    """
    try:
        return ld_cache.own_mount(data)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return ld_cache.own_mount(data, hung=lambda tree: _Hung(tree, directory, site))


class _Hung:
    """Mounts a file system on a directory for a `with` block."""

    def __init__(self, tree: int, directory: int, site: Site) -> None:
        self._tree = tree
        self._directory = directory
        self._process = site.process

    def __enter__(self) -> None:
        syscalls.move_mount(self._tree, self._directory)

    def __exit__(self, *_exception: object) -> None:
        self._process.unmount(self._tree)
