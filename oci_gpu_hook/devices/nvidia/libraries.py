"""Finds the driver's shared libraries: their directories, those of the running kernel driver, and their links.

They are searched in this order: the ld cache of the driver root, the configured search paths, and the directories where
distributions put a driver. The first two are what the host's own programs use. The third is searched if the others lack
some capability or word size: on hosts without ldconfig, and for libraries that ldconfig does not know.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import DriverError, quoted
from oci_gpu_hook.base.formats import elf, ldcache_entries
from oci_gpu_hook.base.formats.ldcache_format import LdCacheError
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia import prefixes
from oci_gpu_hook.devices.nvidia.capabilities import (
    DRIVER_VERSION,
    GBM_BACKEND,
    GRAPHICS,
    LIBRARIES,
    NGX,
    NOT_GIVEN,
    WINE_LIBRARIES,
    X_MODULES,
)
from oci_gpu_hook.devices.nvidia.essentials import ESSENTIAL_LIBRARIES
from oci_gpu_hook.devices.nvidia.model import Library, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.devices.nvidia.capabilities import LibraryRow
    from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot

LD_CACHE: Final = "/etc/ld.so.cache"
_ROWS: Final = {row.stem: row for row in LIBRARIES}
_X_MODULES: Final = frozenset(row.name.partition(".so")[0] for row in X_MODULES)
# Below the loader's directories: VDPAU's plug-ins, and Debian's directory for the files behind its alternatives.
_BELOW: Final = ("vdpau", "nvidia/current")
_WINE: Final = "nvidia/wine"
_MACHINES: Final = {"x86_64": (elf.X86_64, elf.I386), "aarch64": (elf.AARCH64, elf.ARM)}
_WITH_32_BITS: Final = ("x86_64",)  # machines with 32-bit libraries of the driver, which NGX never has


class Libraries(Record):
    """The libraries that were found. directories: that were searched, in the driver root; homes: those with such files.

    awaited: directories in which libraries may appear later, since some capability or word size has none.

    unclaimed: host paths of files that match no row of the table. missing: names of rows that match no file.
    """

    libraries: tuple[Library, ...]
    links: tuple[Link, ...]
    directories: tuple[str, ...]
    homes: tuple[str, ...]
    awaited: tuple[str, ...]
    unclaimed: tuple[str, ...]
    missing: tuple[str, ...]


def find(root: DriverRoot, version: str, search_paths: Sequence[str]) -> Libraries:
    """Return the libraries of that driver version. Raises DriverError if there are none, or only of another version."""
    search = _Search(root, version)
    search.look_into([*_of_ld_cache(root), *search_paths])
    awaited: dict[str, None] = {}
    machine = os.uname().machine
    usual = tuple(prefixes.usual_directories(machine))
    for beside in (True, False, True):  # in the prefixes of what was found, in the usual directories, in their prefixes
        if not search.is_complete:
            directories = tuple(prefixes.library_directories(prefixes.of(search.homes), machine)) if beside else usual
            awaited |= dict.fromkeys(directories)
            search.look_into(directories)
    if not any(library.name.endswith(f".{version}") for library in search.found.values()):
        raise _none_found(root, version, search.other_versions)
    libraries = tuple(search.found.values())
    return Libraries(
        libraries=libraries,
        links=_gbm_backends(libraries),
        directories=tuple(search.directories),
        homes=tuple(search.homes),
        awaited=() if search.is_complete else tuple(awaited),
        unclaimed=tuple(search.unclaimed),
        missing=tuple(
            row.stem for row in LIBRARIES if row.capabilities != NOT_GIVEN and (row.stem, 64) not in search.found
        ),
    )


class _Search:
    """A search for the libraries of one version; the first file with a name and word size counts."""

    def __init__(self, root: DriverRoot, version: str) -> None:
        self.found: dict[tuple[str, int], Library] = {}
        self.directories: dict[str, None] = {}
        self.homes: dict[str, None] = {}
        self.other_versions: dict[str, str] = {}  # version → a file of it
        self.unclaimed: dict[str, None] = {}
        self._root = root
        self._ending = f".{version}"
        self._seen: set[str] = set()

    @property
    def is_complete(self) -> bool:
        """Whether there are libraries for every capability, for 64-bit and 32-bit programs."""
        wanted = [(stems, 64) for stems in ESSENTIAL_LIBRARIES.values()]
        if os.uname().machine in _WITH_32_BITS:
            wanted += [(stems, 32) for capabilities, stems in ESSENTIAL_LIBRARIES.items() if capabilities != NGX]
        return all(any((stem, bits) in self.found for stem in stems) for stems, bits in wanted)

    def look_into(self, directories: Iterable[str]) -> None:
        for directory in directories:
            for path in (directory, *(f"{directory}/{name}" for name in _BELOW)):
                resolved = self._root.resolve(path)
                if resolved and resolved not in self.directories:
                    self.directories[resolved] = None
                    self._look_into(resolved)

    def _look_into(self, directory: str) -> None:
        names = self._root.names(directory)
        for name in names:
            if name[:3] != "lib":
                continue
            stem, _, suffix = name.partition(".so")
            row = _ROWS.get(stem)
            if row is None:
                if suffix.endswith(self._ending) and stem not in _X_MODULES:
                    self.unclaimed[self._root.host_path(f"{directory}/{name}")] = None
            elif suffix[:1] == "." and row.capabilities != NOT_GIVEN:
                self._take(row, f"{directory}/{name}", suffix, f"{stem}.so" in names)
        for path in (f"{directory}/{_WINE}/{name}" for name in WINE_LIBRARIES):
            if self._root.resolve(path):
                self._take_wine_library(path)

    def _take(self, row: LibraryRow, path: str, suffix: str, has_development_link: bool) -> None:  # noqa: FBT001
        if row.version == DRIVER_VERSION and not suffix.endswith(self._ending):
            other = suffix[1:]
            if "." in other and other.replace(".", "").isdecimal():
                self.other_versions.setdefault(other, self._root.host_path(path))
            return
        resolved = self._root.resolve(path)
        if resolved is None or resolved in self._seen:
            return
        self._seen.add(resolved)
        host_path = self._root.host_path(resolved)
        image = image_of(host_path)
        if image is not None and (row.stem, image.bits) not in self.found:
            self.found[row.stem, image.bits] = _library(row, host_path, image, has_development_link)
            self.homes[os.path.dirname(resolved)] = None

    def _take_wine_library(self, path: str) -> None:
        name = os.path.basename(path)
        host_path = self._root.host_path(self._root.resolve(path) or path)
        library = Library(
            host_path=host_path, name=name, soname="", links=(), directory=_WINE, cached=False, capabilities=NGX
        )
        self.found.setdefault((name, 64), library)


def image_of(path: str) -> elf.Elf | None:
    """Read an ELF file; None if it is for another machine, or not an ELF file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            image = elf.read(fd)
        finally:
            os.close(fd)
    except (OSError, elf.ElfError):
        return None
    return image if image.machine in _MACHINES.get(os.uname().machine, ()) else None


def _library(row: LibraryRow, host_path: str, image: elf.Elf, has_development_link: bool) -> Library:  # noqa: FBT001
    """Return the library in a file. Links: its SONAME, those in the table, the development link if the host has it."""
    name = os.path.basename(host_path)
    development = f"{row.stem}.so"
    links = {}
    if image.soname not in ("", name):
        links[image.soname] = name
    for link in row.links:
        if link != ".so":
            links.setdefault(link, name)
    if has_development_link or ".so" in row.links:
        links.setdefault(development, image.soname or name)
    links.pop(name, None)
    return Library(
        host_path=host_path,
        name=name,
        soname=image.soname,
        links=tuple(links.items()),
        directory=row.directory,
        bits=image.bits,
        cached=row.cached,
        capabilities=row.capabilities,
    )


def _gbm_backends(libraries: Iterable[Library]) -> tuple[Link, ...]:
    path, target = GBM_BACKEND
    return tuple(
        Link(path=path, target=target, capabilities=GRAPHICS, bits=library.bits)
        for library in libraries
        if library.soname == os.path.basename(target)
    )


def _of_ld_cache(root: DriverRoot) -> Iterable[str]:
    """Return the directories of the driver's libraries in the ld cache, and those that links there lead to."""
    data = root.read(LD_CACHE, limits.LD_CACHE)
    directories: dict[str, None] = {}
    try:
        entries = ldcache_entries.parse(data) if data else ()
    except LdCacheError:  # the directories suffice
        return ()
    for entry in entries:
        if entry.name.partition(".so")[0] in _ROWS:
            directories[os.path.dirname(entry.path)] = None
            resolved = root.resolve(entry.path)
            if resolved:
                directories[os.path.dirname(resolved)] = None
    return directories


def _none_found(root: DriverRoot, version: str, other_versions: dict[str, str]) -> DriverError:
    if other_versions:
        other, path = next(iter(other_versions.items()))
        why = f"the kernel runs version {version}, the libraries are of version {other} ({quoted(path)})"
        remedy = "reboot or reload the kernel modules after a driver update, or install the libraries of that version"
        return DriverError("NVIDIA driver and its libraries differ", why, remedy, "OGH1402")
    why = f"no file of version {version} in the ld cache or the usual directories of {quoted(root.host_path('/'))}"
    remedy = "install the driver's user-space libraries, or set root or library-search-paths in [driver] of config.toml"
    return DriverError("no NVIDIA driver libraries", why, remedy, "OGH1410")
