"""The JSON form of a request, which `oci-gpu request --json` prints."""

from __future__ import annotations

from oci_gpu_hook.request.model import DEFAULT_KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.request.model import Request


def to_json(request: Request) -> dict[str, object]:
    """Return the form that `schemas/request.schema.json` describes; settings by count appear only if set."""
    document: dict[str, object] = {
        "devices": list(request.devices),
        "count": request.count,
        "driverCapabilities": list(request.driver_capabilities),
        "requirements": list(request.requirements),
        "migConfigDevices": request.mig_config_devices,
        "migMonitorDevices": request.mig_monitor_devices,
        "imexChannels": list(request.imex_channels),
        "features": list(request.features),
        "source": request.source,
    }
    if request.kind != DEFAULT_KIND:
        document["kind"] = request.kind
    if request.beside:
        document["beside"] = [to_json(other) for other in request.beside]
    if request.memory:
        document["memory"] = request.memory
    if request.memory_limit:
        document["memoryLimit"] = request.memory_limit
    if request.cores:
        document["cores"] = request.cores
    if request.exclusive:
        document["exclusive"] = True
    if request.wait:
        document["wait"] = request.wait
    if request.warnings:
        document["warnings"] = list(request.warnings)
    return document
