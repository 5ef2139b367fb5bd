"""Admits a container without a grant: what it would be granted now, and what it was granted before."""

from __future__ import annotations

from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.model import is_sick, why_not
from oci_gpu_hook.lifecycle.admission import Admission, served

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.lifecycle.clock import Clock
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.model import Request


def previewed(container: Container, request: Request, config: Config, clock: Clock) -> Admission:
    """Return what a start would be granted now, without recording it. Raises HookError."""
    from oci_gpu_hook.allocation import query

    parts = []
    if request.is_open:
        from oci_gpu_hook.lifecycle import kinds

        request = kinds.settled(request, config)
    for each in (request, *request.beside):
        vendor = vendors.of(each.kind)
        snapshot = vendor.snapshot(each, config)
        of_host = vendor.devices(snapshot.inventory, config)
        each = served(each, snapshot, of_host)  # noqa: PLW2901
        clock.lap("inventory")
        devices = query.preview(each, of_host, config, container)
        clock.lap("allocation")
        parts.append(Admission(container=container, request=each, config=config, snapshot=snapshot, devices=devices))
    return parts[0].replace(beside=tuple(parts[1:]))


def readmitted(container: Container, request: Request, config: Config, uuids: Iterable[str]) -> Admission:
    """Return the admission of a running container by the UUIDs of the devices that it was granted.

    Raises DriverError if the host no longer has one of them.
    """
    wanted = tuple(uuids)
    if request.is_open:
        from oci_gpu_hook.lifecycle import kinds

        request = kinds.settled_before(request, wanted)
    parts = [_readmitted(container, each, config, wanted) for each in (request, *request.beside)]
    return parts[0].replace(beside=tuple(parts[1:]))


def _readmitted(container: Container, request: Request, config: Config, uuids: Iterable[str]) -> Admission:
    vendor = vendors.of(request.kind)
    snapshot = vendor.snapshot(request, config)
    of_host = vendor.devices(snapshot.inventory, config)
    known = {device.uuid: device for device in of_host}
    devices = []
    for uuid in uuids:
        if vendors.kind_of(uuid) != request.kind:
            continue
        name = uuid if vendors.kind_of(uuid) not in vendors.KINDS else f"GPU {uuid}"
        if uuid not in known:
            raise DriverError(name, "the host no longer has it", "restart the container", "OGH1222")
        if known[uuid].fault and not is_sick(known[uuid].fault):
            raise DriverError(
                name,
                why_not(known[uuid].fault),
                "restart the container when it works again, or with another",
                "OGH1222",
            )
        devices.append(known[uuid])
    request = served(request, snapshot, of_host)
    return Admission(container=container, request=request, config=config, snapshot=snapshot, devices=tuple(devices))
