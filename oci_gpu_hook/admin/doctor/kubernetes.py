"""Kubernetes: whether the kubelet (for NVIDIA's device plugin) and this project (by count) assign the same GPUs."""

from __future__ import annotations

from oci_gpu_hook.admin.doctor.model import NOTE, WARNING, Finding, Host
from oci_gpu_hook.allocation import query
from oci_gpu_hook.base import document
from oci_gpu_hook.base.errors import HookError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

    from oci_gpu_hook.allocation.model import Lease

_NAME: Final = "kubernetes"
# pkg/kubelet/cm/devicemanager/checkpoint of Kubernetes: devices that plugins have registered, and their assignment.
_CHECKPOINT: Final = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"
_LISTED: Final = 4


def check(host: Host) -> Iterator[Finding]:
    """Compare the kubelet's devices with those that are held by count."""
    registered = _registered(host)
    if not registered:
        return
    counted = [lease for lease in query.current(host.config).leases if lease.counted]
    double = [lease for lease in counted if not registered.isdisjoint(_uuids(lease))]
    why = "the kubelet gives pods the same GPUs, since it does not count; if one has a GPU exclusively, the other fails"
    remedy = "use one of the two on this node, or keep the plugin's GPUs out of counts with [allocation] exclude"
    if double:
        names = ", ".join(quoted(lease.container) for lease in double[:_LISTED])
        more = f" and {len(double) - _LISTED} more" if len(double) > _LISTED else ""
        what = f"GPUs of the device plugin are held by count: by {names}{more}"
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=remedy)
    else:
        count = len(registered)
        what = f"a device plugin hands out {count} GPU{'s' * (count != 1)} of this node; requests by count would too"
        yield Finding(check=_NAME, severity=NOTE, what=what, why=why, remedy=remedy)


def _uuids(lease: Lease) -> set[str]:
    return {uuid for device in lease.devices for uuid in (device.whole, device.part) if uuid}


def _registered(host: Host) -> set[str]:
    """Return the NVIDIA devices that plugins have registered with the kubelet; replicas of a device count once."""
    try:
        checkpoint: Any = document.parse(host.read_bytes(_CHECKPOINT) or b"null", _CHECKPOINT)
        resources = checkpoint["Data"]["RegisteredDevices"]
        return {
            device.partition("::")[0]
            for name, devices in resources.items()
            if name.startswith("nvidia.com/")
            for device in devices or ()
        }
    except (HookError, ValueError, TypeError, LookupError, AttributeError):
        return set()
