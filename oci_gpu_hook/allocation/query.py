"""Looking at who holds which GPU, and at what a grant would be, without changing anything."""

from __future__ import annotations

from oci_gpu_hook.allocation import claim, messages
from oci_gpu_hook.allocation.allocate import under_policy
from oci_gpu_hook.allocation.holders import Processes
from oci_gpu_hook.allocation.lease_table import Book
from oci_gpu_hook.allocation.store import Store
from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import AllocationError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.allocation.model import Granted
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.request.model import Request


def preview(request: Request, inventory: Inventory, config: Config) -> tuple[Granted, ...]:
    """Return what `grant` would choose now, and record nothing. Raises as `grant` does, without waiting."""
    if request.count is None and not request.devices:
        return ()
    book = readable(config)
    return claim.choose_in_turn(under_policy(request, config), inventory, book.leases, book.queue)


def current(config: Config) -> Book:
    """Return the record as it is, without the dead and without changing it. Raises AllocationError if unreadable."""
    try:
        with Store(config.state_dir, Processes()) as store:
            book = store.living(store.read())
    except FileNotFoundError:  # nothing was ever granted here
        return Book()
    except OSError as error:
        raise messages.unusable(config.state_dir, reason(error)) from None
    store.tell_troubles()
    return book


def readable(config: Config) -> Book:
    """Return what can be read of the record, which may be nothing."""
    try:
        return current(config)
    except AllocationError as error:
        log.warning("lease record unreadable", directory=config.state_dir, reason=error.why)
        return Book()
