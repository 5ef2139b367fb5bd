"""CDI specification files: whether they can be read, conflict with each other, and fit this host's driver."""

from __future__ import annotations

from oci_gpu_hook.admin.doctor.model import ERROR, OK, WARNING, Finding, Host
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.devices.cdi.spec_files import directories
from oci_gpu_hook.devices.nvidia import cdi_hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.devices.cdi.spec_files.directories import Registry
    from oci_gpu_hook.devices.cdi.spec_files.model import Specification

_NAME: Final = "cdi"
_REFRESH: Final = "run `oci-gpu cdi refresh`"


def check(host: Host) -> Iterator[Finding]:
    """Check the directories of specification files. Without files there are no findings."""
    registry = directories.read(host.path(path) for path in host.config.cdi_spec_dirs)
    if not registry.files:
        return
    faults = [*_broken(registry), *_conflicting(registry), *_outdated(registry, host)]
    yield from faults
    if not faults:
        count = len(registry.devices)
        yield Finding(check=_NAME, severity=OK, what=f"CDI: {count} devices, and no two files in conflict")


def _broken(registry: Registry) -> Iterator[Finding]:
    why = "engines refuse the devices that only this file has"
    remedy = "correct the file, or remove it; `oci-gpu cdi validate FILE` says all that is wrong"
    problems = [*registry.problems, *(problem for file in registry.files for problem in file.problems[:1])]
    for problem in problems:
        yield Finding(check=_NAME, severity=WARNING, what=f"CDI: {problem}", why=why, remedy=remedy)


def _conflicting(registry: Registry) -> Iterator[Finding]:
    by_files: dict[tuple[str, ...], list[str]] = {}
    for name, paths in registry.conflicts.items():
        by_files.setdefault(paths, []).append(name)
    for paths, names in by_files.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        what = f"CDI: {names[0]}{more} in {' and '.join(map(quoted, paths))}"
        why = "engines refuse a device that two files of one directory have"
        yield Finding(check=_NAME, severity=ERROR, what=what, why=why, remedy="remove one of the files")


def _outdated(registry: Registry, host: Host) -> Iterator[Finding]:
    running = host.inventory.driver_version if host.inventory else ""
    for file in registry.files:
        driver = _driver_of(file.specification) if file.specification else ""
        if running and driver and driver != running:
            what = f"CDI: {quoted(file.path)} is for driver {driver}, but {running} is running"
            why = "containers that ask by it fail to start, or load libraries that do not fit the driver"
            yield Finding(check=_NAME, severity=ERROR, what=what, why=why, remedy=_REFRESH)


def _driver_of(specification: Specification) -> str:
    """Return the driver's version of a specification by this project or NVIDIA's toolkit; "" for others."""
    for hook in specification.edits.hooks:
        for argument in hook.args:
            for option in (cdi_hook.DRIVER, "--host-driver-version="):
                if argument.startswith(option):
                    return argument.removeprefix(option)
    return ""
