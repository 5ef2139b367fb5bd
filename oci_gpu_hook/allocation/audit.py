"""What the log says of leases: an event for each grant, refusal and release, written after the lock is given back."""

from __future__ import annotations

from oci_gpu_hook import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_gpu_hook.allocation.leases import Lease
    from oci_gpu_hook.errors import HookError
    from oci_gpu_hook.request.model import Request


def granted(leases: Iterable[Lease]) -> None:
    """Tell of new leases."""
    for lease in leases:
        log.info("granted", **_facts(lease))


def released(leases: Iterable[Lease], why: str) -> None:
    """Tell of leases that are no more."""
    for lease in leases:
        log.info("released", **_facts(lease), reason=why)


def refused(container: str, request: Request, error: HookError) -> None:
    """Tell of a request that was not granted, in its own words, for it has no devices."""
    log.warning(
        "refused",
        container=container,
        gpus=list(request.devices),
        count=request.count,
        exclusive=request.exclusive,
        reason=str(error),
    )


def made_anew(troubles: Iterable[dict[str, object]]) -> None:
    """Tell loudly of a record that could not be trusted, and where it is kept."""
    for trouble in troubles:
        log.warning("lease record was not usable and is made anew", **trouble)


def _facts(lease: Lease) -> dict[str, object]:
    return {
        "container": lease.container,
        "gpus": [device.uuid for device in lease.devices],
        "exclusive": lease.exclusive,
    }
