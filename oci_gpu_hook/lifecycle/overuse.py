"""Tells whether a container uses more of a device than the part that it was given: its programs may have left MPS."""

from __future__ import annotations

from oci_gpu_hook.allocation import query
from oci_gpu_hook.apply.operations.inspection import Finding
from oci_gpu_hook.base.errors import HookError, quoted
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.lifecycle.census import Census

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.use import DeviceUse

LIMITS: Final = "limits"
_MIB: Final = 1 << 20


def of(entry: Entry, config: Config) -> Iterator[Finding]:
    """Yield a finding for each device of which the container uses more memory than its part, as the driver says."""
    limit, _ = entry.share
    if not limit:
        return
    census = Census(config)
    census.take(lease for lease in query.readable(config).leases if lease.container == entry.id)
    for kind in {vendors.kind_of(uuid) for uuid in entry.gpus}:
        try:
            uses = vendors.of(kind).used(config)
        except HookError:  # that the driver does not say is no fault of the container's
            continue
        for uuid in entry.gpus:
            used = _memory(uses[uuid], entry, census) if uuid in uses and uuid not in entry.attached else 0
            if used > limit:
                why = f"use {used // _MIB} MiB of {quoted(uuid)}, of which it was given {limit // _MIB} MiB"
                what = f"programs of container {quoted(entry.id)}"
                remedy = (
                    "stop it, or ask its owner: they bypass MPS, or are several, each of which may use the whole part"
                )
                yield Finding(kind=LIMITS, what=what, why=why, remedy=remedy, repairable=False)


def _memory(use: DeviceUse, entry: Entry, census: Census) -> int:
    used = 0
    for process in use.processes:
        resident = census.of_process(process.pid)
        if resident and (resident.id, resident.pid) == (entry.id, entry.pid):
            used += process.memory or 0
    return used
