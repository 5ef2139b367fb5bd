"""Inspects a running container from outside, and finds what it has lost of what it was given."""

from __future__ import annotations

from oci_gpu_hook.apply.device_access import cgroup
from oci_gpu_hook.apply.operations import bind
from oci_gpu_hook.apply.operations.inspection import Finding, Inspection
from oci_gpu_hook.apply.operations.table import KINDS
from oci_gpu_hook.apply.systemd import drop_in
from oci_gpu_hook.devices.edits import ContainerEdits, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.process import Process
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.plan.plan import Plan

RIGHTS: Final = "rights"
DROP_IN: Final = "drop-in"


def look(entry: Entry, process: Process, rootfs: Rootfs, config: Config) -> Iterator[Finding]:
    """Yield findings for what the container of a journal entry has lost. Raises HookError, OSError.

    config: for the path of the host's device nodes.
    """
    inspection = Inspection(entry, process, rootfs, config)
    for kind in KINDS:
        yield from kind.check(entry, inspection)
    yield from _access(entry, inspection.repair)


def lost_part(plan: Plan, entry: Entry, findings: Sequence[Finding]) -> Plan:
    """Return the part of a plan that was given and, by the findings, is lost: nodes, mounts, links, the ld cache."""
    edits = ContainerEdits(device_nodes=plan.edits.device_nodes, mounts=plan.edits.mounts)
    plan = plan.replace(edits=edits)
    comes_late = any(finding.late and finding.repairable for finding in findings)
    for kind in KINDS:
        paths = {finding.path for finding in findings if finding.kind == kind.NAME}
        if comes_late and kind is bind:
            paths |= {path for path, _needed in entry.late}
        plan = kind.lost(plan, entry, paths)
    return plan


def _access(entry: Entry, repair: str) -> Iterator[Finding]:
    """Yield findings for devices that the container may no longer use, or will soon not be allowed to use."""
    with cgroup.find(entry.pid, entry.cgroups_path) as found:
        refused = cgroup.refused(found, entry.nodes)
        unit = drop_in.restricted_unit(found.path)
    if refused:
        paths = dict(zip(entry.nodes, entry.node_paths, strict=False))
        names = ", ".join(f"{paths.get(node, 'a device')} ({shown(node)})" for node in refused)
        why = "its rules were rewritten since: by a reload of systemd, or an update of the container by its engine"
        yield Finding(kind=RIGHTS, what=f"the device cgroup refuses {names}", why=why, remedy=repair)
    if unit and not drop_in.covers(unit, entry.nodes):
        why = "systemd restricts its devices, and its next reload may take the GPUs away"
        yield Finding(kind=DROP_IN, what=f"{unit} has no drop-in for its GPUs", why=why, remedy=repair)
