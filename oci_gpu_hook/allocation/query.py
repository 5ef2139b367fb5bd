"""Answers who holds which device, and what would be granted now. Nothing is changed."""

from __future__ import annotations

from oci_gpu_hook.allocation import claim, messages, select
from oci_gpu_hook.allocation.holders import Processes
from oci_gpu_hook.allocation.model import Claim, LeaseTable, Moment
from oci_gpu_hook.allocation.store import Store
from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import AllocationError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.model import Request


def preview(
    request: Request, devices: Sequence[Device], config: Config, container: Container | None = None
) -> tuple[Device, ...]:
    """Return what `allocate` would choose now, without recording it. Raises as `allocate` does, but never waits.

    A container that runs keeps what it has.
    """
    if request.count is None and not request.devices:
        return ()
    table = readable(config)
    request = select.under_policy(request, config)
    processes = Processes()
    holder = processes.holder(container.pid) if container and container.pid else None
    if container and holder:
        asked = Claim(container=container.id, holder=holder, request=request)
        return claim.serve(table, asked, devices, Moment(date="", uptime=processes.uptime()))[0]
    return claim.choose_in_turn(request, devices, table.leases, table.queue, processes.uptime())


def current(config: Config) -> LeaseTable:
    """Return the lease table without dead processes, and do not change it. Raises AllocationError if unreadable."""
    try:
        with Store(config.state_dir, Processes()) as store:
            table = store.living(store.read())
    except FileNotFoundError:  # nothing was ever granted on this host
        return LeaseTable()
    except OSError as error:
        raise messages.unusable(config.state_dir, reason(error)) from None
    store.tell_troubles()
    return table


def readable(config: Config) -> LeaseTable:
    """Return the readable part of the lease table, which may be empty."""
    try:
        return current(config)
    except AllocationError as error:
        log.warning("lease record unreadable", directory=config.state_dir, reason=error.why)
        return LeaseTable()
