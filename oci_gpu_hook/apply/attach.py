"""A plan becomes a container's reality, or nothing does.

Order: everything that can fail without effect comes first (opening, looking), the journal is written before the first
change, the mounts come after the last look at a path, device access comes last.
"""

from __future__ import annotations

import os

from oci_gpu_hook import state
from oci_gpu_hook.apply import cache, cgroup, journal, mounts, syscalls, systemd
from oci_gpu_hook.apply.changes import FILE, Change, take_back
from oci_gpu_hook.apply.journal import Entry
from oci_gpu_hook.apply.placing import Placing
from oci_gpu_hook.apply.rootfs import Rootfs
from oci_gpu_hook.apply.survey import Survey
from oci_gpu_hook.errors import UnsafeRootfs, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.apply.mounts import Attachment
    from oci_gpu_hook.apply.process import Process
    from oci_gpu_hook.config import Config
    from oci_gpu_hook.container import Container, IdMapping
    from oci_gpu_hook.plan import Plan


def open_rootfs(container: Container, process: Process) -> Rootfs:
    """Return the rootfs of a container that an engine is starting, or that runs."""
    return Rootfs(process.open_rootfs(container.rootfs), _owner(container), process.own_mounts)


def attach(plan: Plan, container: Container, process: Process, rootfs: Rootfs, config: Config) -> None:
    """Change the container as planned. On any error everything is taken back and the error raised."""
    os.umask(0)  # modes are set when files are made: see Rootfs.make_node
    ld_cache = cache.merged(plan.image.ld_cache, plan.ld_cache) if plan.image.ld_cache and plan.ld_cache else b""
    exchanged = bool(ld_cache) and cache.is_private(rootfs, read_only=container.root_readonly)
    entry = _entry(plan, container, rootfs, config, exchanged=exchanged)
    journal.write(config, entry)
    placing = Placing(rootfs, user_namespace="user" in container.namespaces)
    attached: list[Attachment] = []
    try:
        placing.place(plan)
        if ld_cache and exchanged:
            cache.exchange(rootfs, ld_cache)
        elif ld_cache:
            path = journal.ld_cache_path(config, container.id)
            placing.attachments.append(cache.prepare_mount(rootfs, ld_cache, path))
        _attach_all(placing.attachments, attached, process, rootfs)
        journal.drop(journal.ld_cache_path(config, container.id))
        _allow_devices(container, config, entry)
    except BaseException as error:
        _take_back(entry, attached, process, rootfs)
        journal.forget(config, container.id)
        if isinstance(error, OSError):
            raise _unsteady(error) from None
        raise
    finally:
        placing.close()


def detach(container_id: str, config: Config) -> None:
    """Take back what outlives a container: what was made in its rootfs, its drop-in, its journal entry."""
    entry = journal.read(config, container_id)
    if entry is None:
        return
    heirs = journal.sharers(config, entry)
    if heirs:
        journal.hand_over(config, entry, heirs[0])
    else:
        _clean_rootfs(entry)
    if entry.unit:
        systemd.remove(entry.unit)
    journal.forget(config, container_id)


def _entry(plan: Plan, container: Container, rootfs: Rootfs, config: Config, *, exchanged: bool) -> Entry:
    survey = Survey(rootfs)
    try:
        changes = survey.of(plan)
    finally:
        survey.close()
    status = os.fstat(rootfs.fd)
    return Entry(
        id=container.id,
        pid=container.pid,
        start_time=state.start_time(container.pid),
        bundle=container.bundle,
        rootfs=container.rootfs,
        rootfs_identity=(status.st_dev, status.st_ino),
        gpus=tuple(granted.uuid for granted in plan.gpus),
        changes=(*changes, Change(kind=FILE, path="/etc/.ld.so.cache.oci-gpu-hook")) if exchanged else changes,
        cached=_added_paths(plan) if exchanged else (),
        nodes=tuple((node.major, node.minor) for node in plan.edits.device_nodes),
        exclusive=plan.request.exclusive or config.allocation_policy == "exclusive",
    )


def _added_paths(plan: Plan) -> tuple[str, ...]:
    """Return what the image's own ld cache does not list, and is to be without again."""
    return tuple(library.path for library in plan.ld_cache if library.path.encode() not in plan.image.ld_cache)


def _attach_all(
    attachments: Sequence[Attachment], attached: list[Attachment], process: Process, rootfs: Rootfs
) -> None:
    shared = process.shared_mounts()
    rootfs_mount = syscalls.mount_id(rootfs.fd)
    if shared:
        _refuse_shared(attachments, shared - {rootfs_mount})
    process.enter()
    try:
        if rootfs_mount in shared:
            _leave_peers(rootfs)
        for attachment in attachments:
            mounts.attach(attachment)
            attached.append(attachment)
    finally:
        process.leave()


def _refuse_shared(attachments: Sequence[Attachment], shared: frozenset[int]) -> None:
    for attachment in attachments:
        if syscalls.mount_id(attachment.onto) in shared:
            why = "lies in a mount that is shared with the host, which would see what is mounted there"
            remedy = "mount it private or as a slave in the container"
            raise UnsafeRootfs(f"container path {quoted(attachment.path)}", why, remedy)


def _leave_peers(rootfs: Rootfs) -> None:
    """Give a rootfs with shared propagation a peer group of its own, so that the host sees no mount of the hook's."""
    syscalls.mount_setattr(rootfs.fd, 0, syscalls.MS_PRIVATE)
    syscalls.mount_setattr(rootfs.fd, 0, syscalls.MS_SHARED)


def _allow_devices(container: Container, config: Config, entry: Entry) -> None:
    found = cgroup.find(container.pid, container.cgroups_path)
    try:
        unit = systemd.drop_in(found.path, entry.nodes) if found.path else None
        if unit:
            journal.write(config, Entry(**{**entry.__dict__, "unit": unit}))
        try:
            cgroup.allow(found, entry.nodes, container.device_rules).close()
        except BaseException:
            if unit:
                systemd.remove(unit)
            raise
    finally:
        found.close()


def _take_back(entry: Entry, attached: Sequence[Attachment], process: Process, rootfs: Rootfs) -> None:
    if attached:
        process.enter()
        try:
            for attachment in reversed(attached):
                process.unmount(attachment.tree)  # raises nothing: the namespace ends with the container
        finally:
            process.leave()
    if entry.cached:
        cache.restore(rootfs, entry.cached)
    take_back(rootfs, entry.changes)


def _clean_rootfs(entry: Entry) -> None:
    """Take back what was made in the rootfs, if that is still where it was."""
    try:
        fd = os.open(entry.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # the engine has taken it away already, and the hook's files with it
    with Rootfs(fd) as rootfs:
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) == entry.rootfs_identity:
            if entry.cached:
                cache.restore(rootfs, entry.cached)
            take_back(rootfs, entry.changes, ended=True)


def _unsteady(error: OSError) -> UnsafeRootfs:
    """Return the refusal of a rootfs in which something that was just looked at is another thing, or gone."""
    why = f"changed while the GPUs were attached ({reason(error)})"
    return UnsafeRootfs("container rootfs", why, "stop what renames files in it and start the container again")


def _owner(container: Container) -> tuple[int, int]:
    return _host_id(container.uid_mappings), _host_id(container.gid_mappings)


def _host_id(mappings: Sequence[IdMapping]) -> int:
    """Return the host's id of the container's root; 0 where it has no user namespace or does not map its root."""
    return next((mapping.host_id for mapping in mappings if mapping.container_id == 0), 0)
