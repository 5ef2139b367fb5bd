"""The JSON forms of `oci-gpu leases`: of the leases alone, and of all that its table shows."""

from __future__ import annotations

import time

from oci_gpu_hook.admin.cli import described, leases_picture
from oci_gpu_hook.allocation import conflict, query, shares
from oci_gpu_hook.allocation.overdue import is_overdue
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from oci_gpu_hook.allocation.model import Lease, LeaseTable, Waiter
    from oci_gpu_hook.allocation.shares import Standing
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.lifecycle.census import Census


def of_leases(config: Config) -> list[dict[str, Any]]:
    """Return the form that `schemas/leases.schema.json` describes."""
    table = query.current(config)
    return _leases(table, leases_picture.census(table, config), config, _devices(config, detailed=_have_shares(table)))


def of_everything(config: Config) -> dict[str, Any]:
    """Return the form that `schemas/leases-all.schema.json` describes."""
    table = query.current(config)
    devices = _devices(config, detailed=True)
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "leases": _leases(table, leases_picture.census(table, config), config, devices),
        "devices": [_device(device, table.leases) for device in devices],
        "waiting": [_waiter(place, waiter) for place, waiter in enumerate(table.queue, 1)],
    }


def _devices(config: Config, *, detailed: bool) -> list[Device]:
    """Return this host's devices as far as they can be seen: the leases are useful even without a driver."""
    others, _ = described.of_host(config)
    try:
        gpus = snapshot.load(config, detailed=detailed).gpus
        own = of_nvidia.of(gpus, config.allocation_exclude, config.sharing_reserve)
    except HookError:
        own = ()
    lost = [device for device in own if device.fault and not device.whole]
    return [*of_nvidia.everything(own), *lost, *(each.device for each in others)]


def _leases(table: LeaseTable, census: Census, config: Config, devices: Sequence[Device]) -> list[dict[str, Any]]:
    left = {device.uuid: shares.standing(device, table.leases) for device in devices} if _have_shares(table) else {}
    indices = {device.uuid: device.index for device in devices if not device.whole and device.index >= 0}
    return [
        {
            "container": lease.container,
            "gpus": [device.uuid for device in lease.devices],
            "indices": [indices.get(device.uuid) for device in lease.devices],
            "exclusive": lease.exclusive,
            "pid": lease.holder.pid,
            "since": lease.since,
            **({"overdue": True} if is_overdue(lease, config, time.time()) else {}),
            **{name: text for name, text in _names(lease, census).items() if text},
            **({"shares": parts} if (parts := _parts(lease, left)) else {}),
        }
        for lease in table.leases
    ]


def _device(device: Device, leases: Sequence[Lease]) -> dict[str, Any]:
    holders = conflict.holders(device, leases)
    return {
        "index": device.index if not device.whole and device.index >= 0 else None,
        "uuid": device.uuid,
        "name": device.label,
        "memory": device.memory or None,
        "free": not holders and not device.fault,
        "holders": [lease.container for lease in holders],
        "fault": device.fault or None,
        "shares": standing(shares.standing(device, leases)) if device.shareable and not device.fault else None,
    }


def standing(found: Standing) -> dict[str, int]:
    """Return how a device stands: what is reserved of it, and what is left."""
    return {
        "memory": found.memory,
        "memoryReserved": found.memory_reserved,
        "memoryLeft": found.memory_left,
        "coresReserved": found.cores_reserved,
        "coresLeft": found.cores_left,
    }


def _waiter(place: int, waiter: Waiter) -> dict[str, Any]:
    request = waiter.request
    return {
        "place": place,
        "container": waiter.container,
        "count": request.count,
        "devices": list(request.devices),
        "exclusive": request.exclusive,
        "since": waiter.since,
    }


def _have_shares(table: LeaseTable) -> bool:
    return any(device.is_share for lease in table.leases for device in lease.devices)


def _parts(lease: Lease, left: Mapping[str, Standing]) -> dict[str, dict[str, int]]:
    """Return what a container has of those devices of which it has a part, and what is left of these for others."""
    return {
        device.uuid: {"memory": device.memory, "cores": device.cores, **_left(left.get(device.uuid))}
        for device in lease.devices
        if device.is_share
    }


def _left(standing: Standing | None) -> dict[str, int]:
    return {"memoryLeft": standing.memory_left, "coresLeft": standing.cores_left} if standing else {}


def _names(lease: Lease, census: Census) -> dict[str, str]:
    resident = census.of_lease(lease)
    return {"pod": lease.pod, "engine": resident.engine, "name": resident.name}
