"""Finds the leases that have lasted longer than the configuration wants. Pure."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.base.config.model import Config


def age(since: str, now: float) -> int | None:
    """Return the seconds since a time in the record, None for what is not one. now: of time.time()."""
    from calendar import timegm

    try:
        return max(int(now) - timegm(time.strptime(since, "%Y-%m-%dT%H:%M:%SZ")), 0)
    except ValueError:
        return None


def is_overdue(lease: Lease, config: Config, now: float) -> bool:
    """Tell whether a lease has lasted longer than [allocation] longest-hold."""
    if config.allocation_longest_hold is None or lease.starting:
        return False
    lasted = age(lease.since, now)
    return lasted is not None and lasted > config.allocation_longest_hold


def overdue(leases: Iterable[Lease], config: Config, now: float) -> list[Lease]:
    """Return those of the leases that have."""
    return [lease for lease in leases if is_overdue(lease, config, now)]
