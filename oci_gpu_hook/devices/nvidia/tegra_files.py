"""Finds what the CSV files of a Tegra name in its file system: libraries, other files, directories, links.

Source: nvidia-container-toolkit, internal/platform-support/tegra (csv.go, symlinks.go), internal/discover/symlinks.go.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia import csv_files, libraries
from oci_gpu_hook.devices.nvidia.model import DriverFile, Library, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from oci_gpu_hook.devices.nvidia.csv_files import Entry
    from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot

EVERY_FILE: Final = "csv-mounts"  # the feature that NVIDIA_REQUIRE_JETPACK=csv-mounts=all asks for
_RELEASE: Final = "/etc/nv_tegra_release"
_ALSO_BESIDE: Final = {  # file name up to a version of two numbers → link, and what it leads to ("" for the file)
    "libcuda.so": ("libcuda.so", "libcuda.so.1"),
    "libGLX_nvidia.so": ("libGLX_indirect.so.0", ""),
    "libnvidia-opticalflow.so": ("libnvidia-opticalflow.so", "libnvidia-opticalflow.so.1"),
}


class Found(Record):
    """What was found. missing: entries that name nothing. watched: host paths whose identity the result depends on."""

    libraries: tuple[Library, ...]
    files: tuple[DriverFile, ...]
    links: tuple[Link, ...]
    missing: tuple[Entry, ...]
    watched: tuple[str, ...]


def find(root: DriverRoot, entries: Iterable[Entry], dev_root: str) -> Found:
    """Return what the entries of other kinds than `dev` name. dev_root: where a path in /dev is on the host."""
    search = _Search(root, dev_root)
    for entry in entries:
        capabilities = () if entry.base else (EVERY_FILE,)
        if entry.kind == "dir":
            search.directory(entry, capabilities)
        elif entry.kind == "lib":
            search.file(entry, capabilities)
        elif entry.kind == "sym":
            search.link(entry, capabilities)
    if root.resolve(_RELEASE):
        search.take(_RELEASE, ())
    return Found(
        libraries=tuple(_with_links(search)),
        files=tuple(search.files.values()),
        links=tuple(search.links.values()),
        missing=tuple(search.missing),
        watched=tuple(search.watched),
    )


class _Search:
    """A search for what entries name; what several name is taken once."""

    def __init__(self, root: DriverRoot, dev_root: str) -> None:
        self.root = root
        self.libraries: dict[str, Library] = {}
        self.files: dict[str, DriverFile] = {}
        self.links: dict[str, Link] = {}
        self.missing: list[Entry] = []
        self.watched: dict[str, None] = {}
        self._dev_root = dev_root

    def directory(self, entry: Entry, capabilities: tuple[str, ...]) -> None:
        host_path = self._dev_root + entry.path
        if not entry.path.startswith("/dev/"):
            resolved = self.root.resolve(entry.path)
            host_path = self.root.host_path(resolved) if resolved else ""
        if host_path and os.path.isdir(host_path):
            file = DriverFile(host_path=host_path, container_path=entry.path, capabilities=capabilities, directory=True)
            self.files.setdefault(entry.path, file)
        else:
            self.missing.append(entry)

    def file(self, entry: Entry, capabilities: tuple[str, ...]) -> None:
        directory, name = os.path.split(entry.path)
        if is_pattern(name):
            directory = self.root.resolve(directory) or directory
        paths = expanded(self.root.host_path("/").rstrip("/"), os.path.join(directory, name))
        found = [resolved for path in paths if (resolved := self.root.resolve(path))]
        for resolved in found:
            self.take(resolved, capabilities)
        if not found:
            self.missing.append(entry)

    def link(self, entry: Entry, capabilities: tuple[str, ...]) -> None:
        """Take the links from a path on, and what the last one leads to."""
        on_the_way: dict[str, Link] = {}
        path = entry.path
        for _ in range(limits.CSV_LINKS):
            directory, name = os.path.split(path)
            try:  # with the links of the directory resolved in the root
                target = os.readlink(self.root.host_path(os.path.join(self.root.resolve(directory) or directory, name)))
            except OSError:
                break
            on_the_way.setdefault(path, Link(path=path, target=target, capabilities=capabilities))
            self.watched.setdefault(os.path.dirname(self.root.host_path(path)))
            path = os.path.normpath(os.path.join(os.path.dirname(path), target))
        resolved = self.root.resolve(entry.path)
        if resolved:
            for path, link in on_the_way.items():
                self.links.setdefault(path, link)
            self.take(resolved, capabilities)
        else:
            self.missing.append(entry)

    def take(self, path: str, capabilities: tuple[str, ...]) -> None:
        """Take a file or directory of the root, at its own path."""
        if path in self.libraries or path in self.files:
            return
        host_path = self.root.host_path(path)
        self.watched.setdefault(os.path.dirname(host_path))
        name = os.path.basename(path)
        image = libraries.image_of(host_path) if ".so" in name else None
        if image is None:
            file = DriverFile(
                host_path=host_path,
                container_path=path,
                capabilities=capabilities,
                directory=os.path.isdir(host_path),
            )
            self.files[path] = file
            return
        self.libraries[path] = Library(
            host_path=host_path,
            name=name,
            soname=image.soname,
            links=(),
            directory=os.path.dirname(path),
            bits=image.bits,
            capabilities=capabilities,
        )


def _with_links(search: _Search) -> Iterable[Library]:
    """Yield the libraries with the links beside them: ldconfig's by their SONAMEs, and those of NVIDIA's toolkit."""
    taken = {*search.libraries, *search.files, *search.links}
    for path, library in search.libraries.items():
        wanted = [(library.soname, library.name)] if library.soname not in ("", library.name) else []
        start, dot_so, version = library.name.partition(".so")
        if f"{start}{dot_so}" in _ALSO_BESIDE and version.count(".") > 1:
            name, target = _ALSO_BESIDE[f"{start}{dot_so}"]
            wanted.append((name, target or library.name))
        directory = os.path.dirname(path)
        development = f"{start}.so"  # which programs open, where the host has it as a link
        if version[:1] == "." and os.path.islink(search.root.host_path(f"{directory}/{development}")):
            wanted.append((development, library.soname or library.name))
        links = []
        for name, target in wanted:
            if f"{directory}/{name}" not in taken:
                taken.add(f"{directory}/{name}")
                links.append((name, target))
            elif f"{directory}/{name}" in search.links:  # the ld cache has to list a link of the CSV files, too
                search.links.pop(f"{directory}/{name}")
                links.append((name, target))
        yield library.replace(links=tuple(links))


def is_pattern(path: str) -> bool:
    """Tell whether a path of the CSV files stands for several: its name has a `*`, as in JetPack's /dev/dri/card*."""
    return "*" in path


def expanded(base: str, path: str) -> list[str]:
    """Return the paths below `base` that a pattern matches, sorted; the path itself if it is none.

    Raises DriverError for a pattern that matches more than the limit.
    """
    if not is_pattern(path):
        return [path]
    directory, _, name = path.rpartition("/")
    start, _, end = name.partition("*")
    if is_pattern(directory) or is_pattern(end):
        return []
    try:
        names = os.listdir(base + directory)
    except OSError:
        return []
    least = len(start) + len(end)
    matching = [name for name in names if name.startswith(start) and name.endswith(end) and len(name) >= least]
    if len(matching) > limits.CSV_NAMES:
        raise csv_files.over(path, f"matches more than {limits.CSV_NAMES} names")
    return [f"{directory}/{name}" for name in sorted(matching)]
