"""The driver: whether kernel modules and libraries have the same version, and whether essential parts exist."""

from __future__ import annotations

from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, OK, WARNING, Finding, Host
from oci_gpu_hook.devices import presence, vendors
from oci_gpu_hook.devices.nvidia import csv_files, essentials, platforms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.devices.nvidia.model import Inventory

_NAME: Final = "driver"
_ESSENTIAL: Final = (
    ("libcuda.so.1", "compute", "no CUDA program runs in a container"),
    ("libnvidia-ml.so.1", "utility", "nvidia-smi does not run, and memory, NVLinks and MIG devices cannot be known"),
)

_SAID: Final = (("compute",), ("utility",))
_OF_NVML: Final = (
    "memory, NVLinks, MIG devices and the CUDA version are unknown",
    "nvidia-smi on the host shows the same trouble; see dmesg",
)
_OF_CSV_FILES: Final = (
    "csv-mounts"  # what the CSV files of a Tegra name concerns containers that do not ask for it, too
)
_OF_A_LINE: Final = (
    "what that file or line names does not reach containers",
    "correct it, or remove it (docs/platforms.md has the form of a line)",
)
_INSTALL: Final = "install that part of the driver, in its version, if containers are to have it"
_BESIDE: Final = (
    "put the driver's own file beside its libraries' directory (PREFIX/bin, PREFIX/share) or into the system's "
    "(/usr/local/bin, /usr/share)"
)


def check(host: Host) -> Iterator[Finding]:
    """Check the result of discovery."""
    inventory = host.inventory
    if inventory is None:
        others = presence.of_host(host.config)
        if others and not set(vendors.KINDS).intersection(others):
            what = f"no NVIDIA driver, and no NVIDIA GPU; the host has {', '.join(others)}"
            yield Finding(check=_NAME, severity=OK, what=what)
        elif host.trouble:
            why = f"{host.trouble.why}; every container that asks for a GPU fails to start with this error"
            yield Finding(check=_NAME, severity=ERROR, what=host.trouble.what, why=why, remedy=host.trouble.remedy)
        return
    version = inventory.driver_version
    cuda = f", CUDA {inventory.cuda_version}" if inventory.cuda_version else ""
    count = len(inventory.libraries)
    where = f" of {platforms.NAMES[inventory.platform]}" if inventory.platform else ""
    what = f"driver {version or 'of unknown version'}{where}{cuda}; {count} matching libraries"
    yield Finding(check=_NAME, severity=OK, what=what)
    present = {library.soname for library in inventory.libraries if library.bits == 64}
    for soname, capability, why in _ESSENTIAL[:1] if inventory.platform else _ESSENTIAL:
        if soname not in present:
            remedy = f"install the package of driver {version} that has it (for the capability {capability})"
            yield Finding(check=_NAME, severity=ERROR, what=f"the host has no {soname}", why=why, remedy=remedy)
    for text in inventory.warnings:
        why, remedy = _OF_A_LINE if text.startswith(csv_files.ABOUT) else _OF_NVML
        yield Finding(check=_NAME, severity=WARNING, what=text, why=why, remedy=remedy)
    yield from _lacking(inventory)
    if inventory.unclaimed:
        what = f"{len(inventory.unclaimed)} files of the driver belong to no capability and go to no container"
        remedy = "oci-gpu info --unclaimed lists them; if a program misses one, please report it"
        yield Finding(check=_NAME, severity=NOTE, what=what, remedy=remedy)


def _lacking(inventory: Inventory) -> Iterator[Finding]:
    """Yield findings for essential parts that the driver does not have."""
    for capabilities, text in inventory.lacking:
        is_whole = essentials.NOTHING in text
        if is_whole and capabilities in _SAID:
            continue  # reported above, for the library
        why = f"containers that ask for {' or '.join(capabilities)} get their GPUs without it, and a warning"
        if _OF_CSV_FILES in capabilities:
            why = f"containers get their GPUs without it; only those that ask for {_OF_CSV_FILES} are warned"
        if inventory.platform:
            yield Finding(check=_NAME, severity=NOTE, what=text, why=why)
            continue
        remedy = _INSTALL if is_whole else _BESIDE
        yield Finding(check=_NAME, severity=NOTE if is_whole else WARNING, what=text, why=why, remedy=remedy)
