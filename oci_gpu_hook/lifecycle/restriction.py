"""Devices that something else has chosen for a container, as a Mesos agent's isolator does."""

from __future__ import annotations

from oci_gpu_hook.base.errors import AllocationError
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.model import why_not

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.request.model import Request


class Restriction(Record):
    """Limits the GPUs that a container can be granted to those, by device minor, that something else has chosen.

    who: what has chosen them. remedy: what to do about it. Both are for messages.
    """

    minors: frozenset[int]
    who: str
    remedy: str


def restricted_to(restriction: Restriction, devices: Sequence[Device], request: Request) -> tuple[Device, ...]:
    """Return the devices that may be granted. Raises AllocationError if the request is for others."""
    vendor = vendors.of(request.kind)
    own = vendor.of_minors(devices, restriction.minors)
    own = tuple(device.replace(excluded=False) for device in own)  # each of them was chosen deliberately
    if request.count is None and request.devices != ("all",):
        for device in vendor.resolve(request.devices, devices):
            if device.uuid not in {one.uuid for one in own}:
                why = f"{restriction.who} has not given it to this container"
                raise AllocationError(f"{vendor.TERMS.whole} {device.index}", why, restriction.remedy, "OGH1309")
    else:
        for device in own:
            if device.fault:
                what = f"{device.label} ({device.uuid}), which {restriction.who} has given this container"
                raise AllocationError(what, why_not(device.fault), "see dmesg for the cause", "OGH1222")
    whole = [device for device in own if not device.whole]
    if request.count is not None and not request.devices and request.count > len(whole):
        why = f"{restriction.who} has given this container {len(whole)}"
        raise AllocationError(f"{request.count} {vendor.TERMS.whole}s", why, restriction.remedy, "OGH1309")
    return own
