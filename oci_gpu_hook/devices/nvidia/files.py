"""Finds the driver's other files: data, firmware, X modules, the directories of its daemons' sockets."""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia import prefixes as of_prefix
from oci_gpu_hook.devices.nvidia import programs
from oci_gpu_hook.devices.nvidia.capabilities import (
    DATA_FILES,
    FEATURE_FILES,
    FIRMWARE,
    SOCKETS,
    X_MODULES,
)
from oci_gpu_hook.devices.nvidia.essentials import ESSENTIAL_FILES
from oci_gpu_hook.devices.nvidia.model import DriverFile, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot

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
    "/usr/lib/nvidia",  # Debian's links to the branch that its alternatives have chosen
    "/usr/lib/nvidia/xorg",  # Arch
)
_X_BELOW_LIBRARIES: Final = ("xorg/modules/drivers", "xorg/modules/extensions", "nvidia/xorg")
_FIRMWARE_DIRECTORIES: Final = ("/lib/firmware", "/usr/lib/firmware", "/usr/local/nvidia/firmware")


class Files(Record):
    """The files that were found. not_given: as in Programs; unclaimed, missing: as in Libraries.

    watched, present: host paths whose identity, or existence, the result depends on; awaited: further ones to watch if
    something essential is missing.
    """

    files: tuple[DriverFile, ...]
    links: tuple[Link, ...]
    watched: tuple[str, ...]
    present: tuple[str, ...]
    awaited: tuple[str, ...]
    not_given: tuple[tuple[tuple[str, ...], str], ...]
    unclaimed: tuple[str, ...]
    missing: tuple[str, ...]


def find(
    root: DriverRoot, version: str, library_directories: Sequence[str], firmware_path: str, homes: Sequence[str] = ()
) -> Files:
    """Return the files of that driver version.

    library_directories: where its libraries may be; homes: where they are. Both are paths of the root. firmware_path:
    the kernel's setting, or "".
    """
    prefixes = of_prefix.of(homes)
    ran = programs.find(root, prefixes)
    directories = (*of_prefix.data_directories(prefixes), *_DATA_DIRECTORIES, *library_directories)
    data = tuple(_data(root, version, directories))
    modules, links = _x_modules(root, version, (*library_directories, *_beside_programs(root, ran.files)))
    firmware = _firmware(root, version, firmware_path, prefixes)
    found = [*ran.files, *data, *modules, *firmware]
    watched = dict.fromkeys(os.path.dirname(file.host_path) for file in found)
    return Files(
        files=(*found, *_sockets(root), *_features(root)),
        links=tuple(links),
        watched=tuple(watched),
        present=tuple(
            root.host_path(path) for path in (*(row.path for row in SOCKETS), *(row.name for row in FEATURE_FILES))
        ),
        awaited=tuple(root.host_path(path) for path in (*ran.awaited, *_awaited(directories))),
        not_given=ran.not_given,
        unclaimed=ran.unclaimed,
        missing=(*ran.missing, *_missing(version, {file.container_path for file in data})),
    )


def _missing(version: str, found: set[str]) -> Iterable[str]:
    for row in DATA_FILES:
        if row.container_path.format(version=version) not in found:
            yield row.name.format(version=version)


def _data(root: DriverRoot, version: str, directories: Sequence[str]) -> Iterable[DriverFile]:
    machine = os.uname().machine
    for row in DATA_FILES:
        names = [name.format(version=version, machine=machine) for name in (row.name, *row.also_named)]
        places = (f"{directory}/{name}" for name in names for directory in directories)
        path = _first(root, places)
        if path:
            yield _file(root, path, row.container_path.format(version=version), row.capabilities)


def _awaited(directories: Iterable[str]) -> Iterable[str]:
    """Return the directories of those data files that are essential for capabilities."""
    essential = [path for _capabilities, path, _why in ESSENTIAL_FILES]
    below = dict.fromkeys(os.path.dirname(row.name) for row in DATA_FILES if row.container_path in essential)
    return (f"{directory}/{name}" for directory in directories for name in below)


def _beside_programs(root: DriverRoot, files: Iterable[DriverFile]) -> Iterable[str]:
    """Return the library directories beside those of the programs: nixpkgs has the X server's modules there."""
    start = root.host_path("/").rstrip("/")
    directories = [os.path.dirname(file.host_path.removeprefix(start)) for file in files]
    return dict.fromkeys(f"{os.path.dirname(directory).rstrip('/')}/lib" for directory in directories)


def _x_modules(
    root: DriverRoot, version: str, library_directories: Sequence[str]
) -> tuple[list[DriverFile], list[Link]]:
    """Return the X server's modules. They keep their paths, for a ModulePath in the X configuration."""
    below = [f"{directory}/{name}" for directory in library_directories for name in _X_BELOW_LIBRARIES]
    files, links = [], []
    homes: list[str] = []  # where a link among those directories leads: Debian has one for the driver alone
    for row in X_MODULES:
        name = row.name.format(version=version)
        path = _first(root, (f"{directory}/{name}" for directory in (*homes, *below, *_X_DIRECTORIES)))
        if path:
            homes.append(os.path.dirname(path))
            files.append(_file(root, path, path, row.capabilities))
            links += [
                Link(path=f"{os.path.dirname(path)}/{link}", target=name, capabilities=row.capabilities)
                for link in row.links
            ]
    return files, links


def _firmware(root: DriverRoot, version: str, firmware_path: str, prefixes: Sequence[str]) -> Iterable[DriverFile]:
    release = os.uname().release
    directories = [firmware_path] if firmware_path.startswith("/") else []
    directories += [f"/lib/firmware/updates/{release}", "/lib/firmware/updates", f"/lib/firmware/{release}"]
    for row in FIRMWARE:
        below, _, pattern = row.name.format(version=version).rpartition("/")
        start, _, end = pattern.partition("*")
        for directory in (*directories, *_FIRMWARE_DIRECTORIES, *of_prefix.firmware_directories(prefixes)):
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
    """Return the directories of the driver's daemons' sockets."""
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


def _file(root: DriverRoot, path: str, container_path: str, capabilities: tuple[str, ...]) -> DriverFile:
    host_path = root.host_path(path)
    return DriverFile(
        host_path=host_path,
        container_path=container_path,
        capabilities=capabilities,
        directory=os.path.isdir(host_path),
    )
