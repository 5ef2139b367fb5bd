"""Logs leases: an event for each grant and release, written after the lock is released."""

from __future__ import annotations

from oci_gpu_hook.base import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_gpu_hook.allocation.model import Lease


def granted(lease: Lease) -> None:
    """Log a new lease."""
    log.info("granted", **_facts(lease))


def released(leases: Iterable[Lease], why: str) -> None:
    """Log leases that were dropped."""
    for lease in leases:
        log.info("released", **_facts(lease), reason=why)


def _facts(lease: Lease) -> dict[str, object]:
    facts: dict[str, object] = {
        "container": lease.container,
        "gpus": [device.uuid for device in lease.devices],
        "exclusive": lease.exclusive,
    }
    sizes = {device.uuid: [device.memory, device.cores] for device in lease.devices if device.is_share}
    if sizes:
        facts["shares"] = sizes
    return facts | {"pod": lease.pod} if lease.pod else facts
