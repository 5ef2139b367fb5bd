"""Changes a container as a whole or not at all: preflight, journal, materialize, confirm, attach, allow; or rollback.

The order makes it safe. What can fail without effect comes first: the host's files are cloned, the rootfs is inspected.
The journal is written before the first change. Mounts are attached after the last path was resolved, and device access
comes last. A start and a repair differ only in what they write to the journal and in how they roll back.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.apply.device_access import cgroup
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.operations import bind, table
from oci_gpu_hook.apply.operations.place import Descriptors, Materializing, is_shared
from oci_gpu_hook.apply.operations.preflight import Preflight
from oci_gpu_hook.apply.operations.table import KINDS
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.apply.systemd import units
from oci_gpu_hook.base import log, syscalls
from oci_gpu_hook.base.errors import ApplyError, UnsafeRootfs, reason, shortage
from oci_gpu_hook.base.processes import check_principal
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any, Protocol

    from oci_gpu_hook.apply.device_access.model import DeviceCgroup
    from oci_gpu_hook.apply.journal.changes import Change
    from oci_gpu_hook.apply.operations.place import Attachment
    from oci_gpu_hook.apply.process import Process, Site
    from oci_gpu_hook.apply.rootfs.as_mounted import AsMounted
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.errors import HookError
    from oci_gpu_hook.devices.edits import Numbers as Node
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.plan.plan import Plan

    class Journaling(Protocol):
        """What a transaction writes to the journal, and its rollback."""

        def write(self, look: Callable[[], Work]) -> Work:
            """Call `look`, write what it returns to the journal, and return it. Raises HookError, OSError."""

        def ld_cache_path(self) -> str:
            """Return the path of the container's ld cache until it is mounted. To be called after `write`."""

        def undo(self, work: Work) -> None:
            """Undo what `write` has recorded, and restore the journal."""


class Work(Record):
    """What a transaction will do, determined before anything is changed.

    plan: without edits that have no place; warnings: about those. looked: what each kind of edit has found. absent,
    changes, cached, mounted, own_mounted: as in `Preflight`. unit: the container's systemd unit, if systemd restricts
    its devices.
    """

    plan: Plan
    looked: Sequence[Any]
    absent: Collection[str]
    warnings: tuple[str, ...]
    changes: tuple[Change, ...]
    cached: tuple[str, ...]
    mounted: tuple[tuple[str, int, int, int, int], ...]
    own_mounted: tuple[tuple[str, int, int, int, int], ...]
    unit: str


def carry_out(
    plan: Plan, site: Site, nodes: Sequence[Node], journaling: Journaling, confirm: Callable[[], None]
) -> tuple[str, ...]:
    """Change the container as planned; return warnings. On any error everything is undone, and the error raised.

    nodes: the devices that the container will be allowed to use. confirm: called when all of the driver's files are
    held open; it raises if they are not those that the plan was made from.
    """
    os.umask(0)  # modes are set when files are created: see Directory.make_node
    syscalls.allow_most_descriptors()
    written: list[Work] = []
    try:
        return _carry_out(plan, site, nodes, journaling, confirm, written)
    except BaseException as error:
        # By now all descriptors of the work are closed, since rollback needs some.
        for work in written:
            journaling.undo(work)
        if isinstance(error, OSError):
            raise _unsteady(error) from None
        raise


def rehearse(plan: Plan, container: Container, rootfs: AsMounted) -> Plan:
    """Return the plan without edits that have no place. Raises HookError if it could not be carried out."""
    with Directories(rootfs) as directories:
        seen = Preflight(rootfs, directories, rootfs.shared, root_readonly=container.root_readonly)
        try:
            plan, _ = table.look(plan, [None for _ in KINDS], seen)
        except OSError as error:
            raise _unsteady(error) from None
    return plan.replace(warnings=(*plan.warnings, *table.warnings(seen)))


def _carry_out(  # noqa: PLR0913, PLR0917
    plan: Plan,
    site: Site,
    nodes: Sequence[Node],
    journaling: Journaling,
    confirm: Callable[[], None],
    written: list[Work],
) -> tuple[str, ...]:
    """Do what `carry_out` does, without the rollback of the rootfs. `written` gets what may have been changed."""
    container, rootfs = site.container, site.rootfs
    with (
        Descriptors() as opened,
        Directories(rootfs) as directories,
        cgroup.find(container.pid, container.cgroups_path) as devices,
    ):
        prepared = [kind.prepare(plan, site, opened) for kind in KINDS]
        unit = _restricted_unit(devices)

        def look() -> Work:
            shared = site.process.shared_mounts() - {rootfs.mount_id}
            seen = Preflight(rootfs, directories, shared, root_readonly=container.root_readonly)
            placed, looked = table.look(plan, prepared, seen)
            return Work(
                plan=placed,
                looked=looked,
                absent=seen.absent,
                warnings=table.warnings(seen),
                changes=tuple(seen.changes),
                cached=seen.cached,
                mounted=seen.mounted,
                own_mounted=seen.own_mounted,
                unit=unit,
            )

        work = journaling.write(look)
        written.append(work)
        attached: list[Attachment] = []
        try:
            making = Materializing(site, directories, work.absent, opened, journaling.ld_cache_path())
            for kind, own in zip(KINDS, work.looked, strict=True):
                kind.make(work.plan, own, making)
            confirm()
            check_principal()
            attach_all(making.attachments, attached, site.process, rootfs)
            journal.drop(making.state_file)
            check_principal()
            _allow_devices(devices, nodes, container, unit)
        except BaseException:
            detach_all(attached, site.process)
            raise
    return work.warnings


def attach_all(attachments: Sequence[Attachment], attached: list[Attachment], process: Process, rootfs: Rootfs) -> None:
    """Attach the mounts in the container's namespace, and add each to `attached`. Raises HookError."""
    refuse_shared(attachments, process, rootfs)
    process.enter()
    try:
        leave_peers(process, rootfs)
        bind.attach(attachments, attached)
    finally:
        process.leave()


def detach_all(attached: Sequence[Attachment], process: Process) -> None:
    """Undo what `attach_all` did."""
    if attached:
        process.unmount_there(tree for tree, _onto, _path in reversed(attached))


def refuse_shared(attachments: Sequence[Attachment], process: Process, rootfs: Rootfs) -> None:
    """Raise UnsafeRootfs for a mountpoint in a shared mount other than the rootfs's own."""
    shared = process.shared_mounts() - {rootfs.mount_id}
    if shared:
        for _tree, onto, path in attachments:
            if syscalls.mount_id(onto) in shared:
                raise is_shared(path)


def leave_peers(process: Process, rootfs: Rootfs) -> None:
    """Give a rootfs with shared propagation its own peer group, so that the hook's mounts do not reach the host.

    This process is in the container's mount namespace. Raises OSError.
    """
    if rootfs.mount_id in process.shared_mounts():
        syscalls.mount_setattr(rootfs.fd, 0, syscalls.MS_PRIVATE)
        syscalls.mount_setattr(rootfs.fd, 0, syscalls.MS_SHARED)


def _restricted_unit(devices: DeviceCgroup) -> str:
    if not units.unit_path(devices.path):
        return ""
    from oci_gpu_hook.apply.systemd import drop_in

    return drop_in.restricted_unit(devices.path)


def _allow_devices(devices: DeviceCgroup, nodes: Sequence[Node], container: Container, unit: str) -> None:
    """Let the container use its nodes, and keep systemd from taking that away.

    systemd reads the drop-in at its next reload. To tell it at once may fail, which is only logged.
    """
    if not unit:
        cgroup.allow(devices, nodes, container.device_rules).close()
        return
    from oci_gpu_hook.apply.systemd import drop_in

    had_one = drop_in.exists(unit)
    drop_in.drop_in(unit, nodes)
    try:
        cgroup.allow(devices, nodes, container.device_rules).close()
    except BaseException:
        if not had_one:
            drop_in.remove(unit)
        raise
    # By now a service above the container has either permitted the nodes or refused them.
    if unit.endswith(".scope") and not drop_in.is_known(unit, nodes):
        from oci_gpu_hook.apply.systemd import private_bus

        try:
            private_bus.allow_devices(unit, nodes)
        except ApplyError as error:
            log.warning("warning", text=str(error))


def _unsteady(error: OSError) -> HookError:
    """Return the error for a rootfs in which something has changed since it was inspected."""
    if short := shortage(error):
        return short
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "make room in the state directory; [state] dir in config.toml names another"
        return ApplyError("cannot write down what is done to the container", reason(error), remedy, "OGH1506")
    why = f"changed while the GPUs were attached ({reason(error)})"
    return UnsafeRootfs(
        "container rootfs", why, "stop what renames files in it and start the container again", "OGH1602"
    )
