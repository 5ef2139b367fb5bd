"""Reads the list of devices that mounts of /dev/null below /var/run/nvidia-container-devices/ make.

Source: NVIDIA's Kubernetes device plugin, `deviceListStrategy: volume-mounts`.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.request import qualified_name
from oci_gpu_hook.request.nvidia.device_list import read_list
from oci_gpu_hook.request.nvidia.names import MOUNT_ROOT
from oci_gpu_hook.request.values import check_number, items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.oci.container import BundleMount
    from oci_gpu_hook.request.ask import Ask


def from_mounts(mounts: Sequence[BundleMount], warnings: list[str]) -> Ask | None:
    """Read the mounts that name devices. Raises InvalidInput."""
    listed: list[str] = []
    names = _mounted(mounts)
    check_number(len(names), f"volume mounts below {MOUNT_ROOT}")
    for name in names:
        if name.startswith("cdi/"):
            listed += _mounted_cdi(name, warnings)
        elif not name.startswith("imex/"):
            listed += items(name)
    what = f"volume mounts {quoted(','.join(listed))}"
    if len(listed) > 1 and ("none" in listed or "void" in listed):
        # A variable's words may be the image's and another author's; mounts all have one author, who made a mistake.
        raise InvalidInput(
            what,
            "'none' or 'void' is mounted together with devices",
            "mount the devices alone, or the word alone",
            "OGH1211",
        )
    return read_list("mounts", what, listed, warnings) if listed else None


def imex_channels(mounts: Sequence[BundleMount]) -> tuple[str, ...]:
    """Return the IMEX channels that mounts name, unchecked."""
    return tuple(name.removeprefix("imex/") for name in _mounted(mounts) if name.startswith("imex/"))


def _mounted(mounts: Sequence[BundleMount]) -> list[str]:
    """Return the names below the root of device mounts, without duplicates."""
    destinations = (_clean(mount.destination) for mount in mounts if _clean(mount.source) == "/dev/null")
    names = [path.removeprefix(MOUNT_ROOT) for path in destinations if path.startswith(MOUNT_ROOT)]
    return list(dict.fromkeys(names))


def _mounted_cdi(name: str, warnings: list[str]) -> list[str]:
    """Return the CDI name that a mount `cdi/vendor/class/name` or `cdi/vendor/class=name` means."""
    request = name.removeprefix("cdi/")
    parts = request.split("/", 2)
    if qualified_name.parse(request):
        return [request]
    if len(parts) == 3:
        return [f"{parts[0]}/{parts[1]}={parts[2]}"]
    warnings.append(f"the volume mount {quoted(name)} is ignored: a CDI device is mounted as cdi/VENDOR/CLASS/NAME")
    return []


def _clean(path: str) -> str:
    """Return a path without `.`, `..` and repeated slashes, as Go's filepath.Clean does."""
    cleaned = os.path.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned
