"""A plan becomes a container's reality, or nothing does.

Order: everything that can fail without effect comes first (opening, looking), the journal is written before the first
change, the mounts come after the last look at a path, device access comes last.
"""

from __future__ import annotations

import os
import time

from oci_gpu_hook.apply import ld_cache as cache
from oci_gpu_hook.apply import mounts
from oci_gpu_hook.apply.device_access import cgroup
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.changes import FILE, change
from oci_gpu_hook.apply.journal.journal import Entry
from oci_gpu_hook.apply.materialize import Placing
from oci_gpu_hook.apply.preflight import Survey
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.apply.systemd import units
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import UnsafeRootfs, quoted, reason
from oci_gpu_hook.base.processes import boot_id, start_time
from oci_gpu_hook.base.rootless import host_id_of_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oci_gpu_hook.apply.device_access.cgroup import DeviceCgroup
    from oci_gpu_hook.apply.mounts import Attachment
    from oci_gpu_hook.apply.process import Process
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container, IdMapping
    from oci_gpu_hook.plan.plan import Plan


def open_rootfs(container: Container, process: Process) -> Rootfs:
    """Return the rootfs of a container that an engine is starting, or that runs."""
    return Rootfs(process.open_rootfs(container.rootfs), _owner(container), process.own_mounts)


def attach(  # noqa: PLR0913
    plan: Plan, container: Container, process: Process, rootfs: Rootfs, config: Config, *, confirm: Callable[[], None]
) -> None:
    """Change the container as planned. On any error everything is taken back and the error raised.

    confirm: called once all of the driver's files are held, to raise where they are not what the plan was made of.
    """
    os.umask(0)  # modes are set when files are made: see Directory.make_node
    ld_cache, exchangeable = cache.contents(plan)
    exchanged = exchangeable and cache.is_private(rootfs, read_only=container.root_readonly)
    devices = cgroup.find(container.pid, container.cgroups_path)
    directories = Directories(rootfs)
    survey = Survey(rootfs, directories)
    placing = Placing(rootfs, directories, survey.absent, user_namespace="user" in container.namespaces)
    attached: list[Attachment] = []
    entry = None
    try:
        unit = _restricted_unit(devices)
        entry = journal.record(
            config, lambda: _entry(plan, container, rootfs, config, survey, exchanged=exchanged, unit=unit)
        )
        placing.place(plan)
        confirm()
        if ld_cache and exchanged:
            cache.exchange(rootfs, ld_cache)
        elif ld_cache:
            path = journal.ld_cache_path(config, container.id)
            placing.attachments.append(
                cache.prepare_mount(placing.mountpoint(cache.PATH, directory=False), ld_cache, path)
            )
        attach_all(placing.attachments, attached, process, rootfs)
        journal.drop(journal.ld_cache_path(config, container.id))
        _allow_devices(devices, container, entry)
    except BaseException as error:
        if entry is not None:
            from oci_gpu_hook.apply import cleanup

            detach_all(attached, process)
            cleanup.undo(config, entry, rootfs)
        if isinstance(error, OSError):
            raise _unsteady(error) from None
        raise
    finally:
        placing.close()
        directories.close()
        devices.close()


def attach_all(attachments: Sequence[Attachment], attached: list[Attachment], process: Process, rootfs: Rootfs) -> None:
    """Attach the mounts in the container's namespace; `attached` takes those that are. Raises HookError."""
    shared = process.shared_mounts()
    rootfs_mount = syscalls.mount_id(rootfs.fd)
    if shared:
        _refuse_shared(attachments, shared - {rootfs_mount})
    process.enter()
    try:
        if rootfs_mount in shared:
            _leave_peers(rootfs)
        mounts.attach(attachments, attached)
    finally:
        process.leave()


def detach_all(attached: Sequence[Attachment], process: Process) -> None:
    """Undo what `attach_all` did."""
    if attached:
        process.enter()
        try:
            for tree, _onto, _path in reversed(attached):
                process.unmount(tree)  # raises nothing: the namespace ends with the container
        finally:
            process.leave()


def _entry(  # noqa: PLR0913
    plan: Plan, container: Container, rootfs: Rootfs, config: Config, survey: Survey, *, exchanged: bool, unit: str
) -> Entry:
    changes = survey.of(plan, () if exchanged else (cache.PATH,))
    if exchanged:
        changes += (change(FILE, cache.NEW_PATH),)
    own_pid = int(os.readlink("/proc/self"))  # under Mesos getpid() is the container's number, and /proc the host's
    status = os.fstat(rootfs.fd)
    return Entry(
        id=container.id,
        pid=container.pid,
        start_time=start_time(container.pid),
        bundle=container.bundle,
        rootfs=container.rootfs,
        rootfs_identity=(status.st_dev, status.st_ino),
        gpus=tuple(granted.uuid for granted in plan.gpus),
        changes=changes,
        cached=_added_paths(plan) if exchanged else (),
        nodes=tuple((node.major, node.minor) for node in plan.edits.device_nodes),
        unit=unit,
        exclusive=plan.request.exclusive or config.allocation_policy == "exclusive",
        driver=plan.driver_version,
        cgroups_path=container.cgroups_path,
        node_paths=tuple(node.path for node in plan.edits.device_nodes),
        mounts=tuple(mount.container_path for mount in plan.edits.mounts),
        ld_cache=tuple(library.path for library in plan.ld_cache) if cache.is_wanted(plan) else (),
        boot_id=boot_id(),
        hook=(own_pid, start_time(own_pid)),
        since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def _added_paths(plan: Plan) -> tuple[str, ...]:
    """Return what the image's own ld cache does not list, and is to be without again."""
    return tuple(library.path for library in plan.ld_cache if library.path.encode() not in plan.image.ld_cache)


def _refuse_shared(attachments: Sequence[Attachment], shared: frozenset[int]) -> None:
    for _tree, onto, path in attachments:
        if syscalls.mount_id(onto) in shared:
            why = "lies in a mount that is shared with the host, which would see what is mounted there"
            remedy = "mount it private or as a slave in the container"
            raise UnsafeRootfs(f"container path {quoted(path)}", why, remedy)


def _leave_peers(rootfs: Rootfs) -> None:
    """Give a rootfs with shared propagation a peer group of its own, so that the host sees no mount of the hook's."""
    syscalls.mount_setattr(rootfs.fd, 0, syscalls.MS_PRIVATE)
    syscalls.mount_setattr(rootfs.fd, 0, syscalls.MS_SHARED)


def _restricted_unit(devices: DeviceCgroup) -> str:
    if not units.unit_path(devices.path):
        return ""
    from oci_gpu_hook.apply.systemd import drop_in

    return drop_in.restricted_unit(devices.path)


def _allow_devices(devices: DeviceCgroup, container: Container, entry: Entry) -> None:
    """Let the container use its nodes, and first see that systemd does not take that away at its next reload."""
    if not entry.unit:
        cgroup.allow(devices, entry.nodes, container.device_rules).close()
        return
    from oci_gpu_hook.apply.systemd import drop_in

    drop_in.drop_in(entry.unit, entry.nodes)
    try:
        cgroup.allow(devices, entry.nodes, container.device_rules).close()
    except BaseException:
        drop_in.remove(entry.unit)
        raise


def _unsteady(error: OSError) -> UnsafeRootfs:
    """Return the refusal of a rootfs in which something that was just looked at is another thing, or gone."""
    why = f"changed while the GPUs were attached ({reason(error)})"
    return UnsafeRootfs("container rootfs", why, "stop what renames files in it and start the container again")


def _owner(container: Container) -> tuple[int, int]:
    return _host_id(container.uid_mappings), _host_id(container.gid_mappings)


def _host_id(mappings: Sequence[IdMapping]) -> int:
    """Return the host's id of the container's root; 0 where it has no user namespace or does not map its root."""
    return host_id_of_root(((mapping.container_id, mapping.host_id) for mapping in mappings), 0)
