"""What the real runtime can do, where a CDI specification asks for what older ones pass over without a word.

Source: OCI runtime specification 1.3, features.md and features-linux.md; `runc features`, `crun features`.
"""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.document import parse
from oci_gpu_hook.base.errors import ApplyError, HookError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.devices.edits import ContainerEdits

# An annotation of runc's own: runc 1.1 knows intelRdt, and does not name it among its features.
_OF_RUNC: Final = "org.opencontainers.runc.version"


def check(edits: ContainerEdits, real_runtime: str) -> None:
    """Raise ApplyError for an edit that the runtime would not make. Most edits any runtime makes."""
    rdt = edits.intel_rdt
    if not edits.net_devices and rdt is None:
        return
    said = _features(real_runtime)
    linux = _member(said, "linux")
    if edits.net_devices and _member(linux, "netDevices", "enabled") is not True:
        name = edits.net_devices[0].host_interface_name
        raise _lacks(f"CDI network interface {quoted(name)}", "moves none into containers", real_runtime)
    if rdt is None:
        return
    if not (_member(linux, "intelRdt", "enabled") is True or _member(said, "annotations", _OF_RUNC)):
        raise _lacks("CDI intelRdt", "knows no classes of service", real_runtime, "1.1")
    if rdt.schemata and _member(linux, "intelRdt", "schemata") is not True:
        raise _lacks("CDI intelRdt.schemata", "does not know them", real_runtime)
    if rdt.enable_monitoring and _member(linux, "intelRdt", "monitoring") is not True:
        raise _lacks("CDI intelRdt.enableMonitoring", "does not know it", real_runtime)


def _lacks(what: str, why: str, real_runtime: str, least: str = "1.4") -> ApplyError:
    remedy = f"use runc {least} or another runtime that names it in its `features`, or a device without that edit"
    return ApplyError(what, f"the runtime {quoted(real_runtime)} {why}", remedy, "OGH1514")


def _features(real_runtime: str) -> Any:
    """Return what the runtime says of itself, {} where it says nothing."""
    import subprocess

    try:
        done = subprocess.run(
            [real_runtime, "features"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limits.RUNTIME_SECONDS,
            check=False,
        )
        return parse(done.stdout, "features") if len(done.stdout) <= limits.STATE else {}
    except (HookError, OSError, subprocess.TimeoutExpired):
        return {}


def _member(document: Any, *names: str) -> Any:
    for name in names:
        document = document.get(name) if type(document) is dict else None
    return document
