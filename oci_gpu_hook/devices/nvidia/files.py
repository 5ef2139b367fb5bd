"""The driver's other files: programs, data, firmware, X modules, the directories of its daemons' sockets."""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia.capabilities import (
    BINARIES,
    DATA_FILES,
    FEATURE_FILES,
    FIRMWARE,
    NOT_GIVEN,
    SOCKETS,
    X_MODULES,
)
from oci_gpu_hook.devices.nvidia.model import DriverFile, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot

_BINARY_DIRECTORIES: Final = (
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/nvidia/bin",
    "/usr/lib/nvidia/current",  # Debian, behind its alternatives
    "/run/current-system/sw/bin",  # NixOS
    "/opt/bin",
)
_DATA_DIRECTORIES: Final = (
    "/usr/share",
    "/etc",
    "/usr/local/share",
    "/usr/local/nvidia/share",
    "/usr/local/nvidia",  # GKE has vulkan/ there
    "/run/opengl-driver/share",  # NixOS
)
_X_DIRECTORIES: Final = (
    *(
        f"{base}/xorg/modules/{kind}"
        for base in ("/usr/lib", "/usr/lib64")
        for kind in ("drivers", "extensions", "updates/drivers", "updates/extensions")
    ),
    "/usr/lib/nvidia/current",  # Debian names it as ModulePath
    "/usr/lib/nvidia/xorg",  # Arch
)
_X_BELOW_LIBRARIES: Final = ("xorg/modules/drivers", "xorg/modules/extensions", "nvidia/xorg")
_OTHER_PRODUCTS: Final = ("nvidia-container-", "nvidia-ctk", "nvidia-cdi-hook", "nvidia-smi.")
_FIRMWARE_DIRECTORIES: Final = ("/lib/firmware", "/usr/lib/firmware", "/usr/local/nvidia/firmware")


class Files(Record):
    """What was found. unclaimed, missing: as for libraries.

    watched, present: host paths whose change, or whose coming or going, may change the answer.
    """

    files: tuple[DriverFile, ...]
    links: tuple[Link, ...]
    watched: tuple[str, ...]
    present: tuple[str, ...]
    unclaimed: tuple[str, ...]
    missing: tuple[str, ...]


def find(root: DriverRoot, version: str, library_directories: Sequence[str], firmware_path: str) -> Files:
    """Return the files of that driver version.

    library_directories: where its libraries are, paths of the root. firmware_path: the kernel's own setting, or "".
    """
    programs = tuple(_programs(root))
    data = tuple(_data(root, version, library_directories))
    modules, links = _x_modules(root, version, library_directories)
    firmware = _firmware(root, version, firmware_path)
    found = [*programs, *data, *modules, *firmware]
    watched = dict.fromkeys(os.path.dirname(file.host_path) for file in found)
    return Files(
        files=(*found, *_sockets(root), *_features(root)),
        links=tuple(links),
        watched=tuple(watched),
        present=tuple(
            root.host_path(path) for path in (*(row.path for row in SOCKETS), *(row.name for row in FEATURE_FILES))
        ),
        unclaimed=tuple(_unclaimed_programs(root)),
        missing=tuple(_missing(version, {file.container_path for file in (*programs, *data)})),
    )


def _programs(root: DriverRoot) -> Iterable[DriverFile]:
    for row in BINARIES:
        if row.capabilities == NOT_GIVEN:
            continue
        path = _first_program(root, [f"{directory}/{row.name}" for directory in _BINARY_DIRECTORIES])
        if path:
            yield _file(root, path, f"/usr/bin/{row.name}", row.capabilities)


def _missing(version: str, found: set[str]) -> Iterable[str]:
    for row in BINARIES:
        if row.capabilities != NOT_GIVEN and f"/usr/bin/{row.name}" not in found:
            yield row.name
    for row in DATA_FILES:
        if row.container_path.format(version=version) not in found:
            yield row.name.format(version=version)


def _unclaimed_programs(root: DriverRoot) -> Iterable[str]:
    known = {row.name for row in BINARIES}
    for directory in _BINARY_DIRECTORIES:
        for name in root.names(directory):
            if name.startswith("nvidia-") and name not in known and not name.startswith(_OTHER_PRODUCTS):
                yield root.host_path(f"{directory}/{name}")


def _data(root: DriverRoot, version: str, library_directories: Sequence[str]) -> Iterable[DriverFile]:
    machine = os.uname().machine
    for row in DATA_FILES:
        names = [name.format(version=version, machine=machine) for name in (row.name, *row.also_named)]
        places = (f"{directory}/{name}" for name in names for directory in (*_DATA_DIRECTORIES, *library_directories))
        path = _first(root, places)
        if path:
            yield _file(root, path, row.container_path.format(version=version), row.capabilities)


def _x_modules(
    root: DriverRoot, version: str, library_directories: Sequence[str]
) -> tuple[list[DriverFile], list[Link]]:
    """Return the X server's modules; they stay where they are, so that a ModulePath in the X configuration holds."""
    below = [f"{directory}/{name}" for directory in library_directories for name in _X_BELOW_LIBRARIES]
    files, links = [], []
    for row in X_MODULES:
        name = row.name.format(version=version)
        path = _first(root, (f"{directory}/{name}" for directory in (*below, *_X_DIRECTORIES)))
        if path:
            files.append(_file(root, path, path, row.capabilities))
            links += [
                Link(path=f"{os.path.dirname(path)}/{link}", target=name, capabilities=row.capabilities)
                for link in row.links
            ]
    return files, links


def _firmware(root: DriverRoot, version: str, firmware_path: str) -> Iterable[DriverFile]:
    release = os.uname().release
    directories = [firmware_path] if firmware_path.startswith("/") else []
    directories += [f"/lib/firmware/updates/{release}", "/lib/firmware/updates", f"/lib/firmware/{release}"]
    for row in FIRMWARE:
        below, _, pattern = row.name.format(version=version).rpartition("/")
        start, _, end = pattern.partition("*")
        for directory in (*directories, *_FIRMWARE_DIRECTORIES):
            names = [
                name for name in root.names(f"{directory}/{below}") if name.startswith(start) and name.endswith(end)
            ]
            for name in names:
                path = root.resolve(f"{directory}/{below}/{name}")
                if path:
                    yield _file(root, path, f"/lib/firmware/{below}/{name}", row.capabilities)
            if names:
                break


def _sockets(root: DriverRoot) -> Iterable[DriverFile]:
    """Return the directories of the daemons' sockets."""
    for row in SOCKETS:
        path = root.host_path(row.path)
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield DriverFile(
                host_path=path,
                container_path=row.container_path,
                options=row.options,
                capabilities=row.capabilities,
                directory=True,
            )


def _features(root: DriverRoot) -> Iterable[DriverFile]:
    for row in FEATURE_FILES:
        path = root.resolve(row.name)
        if path:
            yield _file(root, path, row.container_path, row.capabilities)


def _first(root: DriverRoot, paths: Iterable[str]) -> str | None:
    for path in paths:
        resolved = root.resolve(path)
        if resolved:
            return resolved
    return None


def _first_program(root: DriverRoot, paths: Sequence[str]) -> str | None:
    """Return the first that is a program itself: some hosts have scripts in front of it that start it by its path."""
    found = [resolved for path in paths if (resolved := root.resolve(path))]
    return next((path for path in found if _is_elf(root.host_path(path))), found[0] if found else None)


def _is_elf(host_path: str) -> bool:
    try:
        fd = os.open(host_path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.pread(fd, 4, 0) == b"\x7fELF"
    finally:
        os.close(fd)


def _file(root: DriverRoot, path: str, container_path: str, capabilities: tuple[str, ...]) -> DriverFile:
    host_path = root.host_path(path)
    return DriverFile(
        host_path=host_path,
        container_path=container_path,
        capabilities=capabilities,
        directory=os.path.isdir(host_path),
    )
