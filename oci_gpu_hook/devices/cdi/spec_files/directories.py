"""Finds the specification files of this host, and the file that a device comes from. No container's start imports this.

Source: Container Device Interface 1.1.0, SPEC.md, and pkg/cdi/cache.go: all *.json and *.yaml in the directories are
read. A device in a later directory overrides one in an earlier directory; a device that two files of one directory have
is not available. A broken file affects only devices that no other file has.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base import limits, rootless, trust
from oci_gpu_hook.base.errors import quoted, reason
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.cdi.spec_files import reading, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from typing import Final

    from oci_gpu_hook.devices.cdi.spec_files.model import SpecDevice, Specification

MOST_FILES: Final = limits.CDI_SPECS
_MOST_LINKS: Final = 40  # as the kernel follows (path_resolution(7))


class SpecFile(Record):
    """A file that was read: its specification, or sentences that say what is wrong."""

    path: str
    specification: Specification | None
    problems: tuple[str, ...]


class Provided(Record):
    """A device and the file that it comes from."""

    path: str
    specification: Specification
    device: SpecDevice

    @property
    def qualified_name(self) -> str:
        """Return VENDOR/CLASS=NAME."""
        return f"{self.specification.kind}={self.device.name}"


class Registry(Record):
    """The contents of all directories.

    files: in the order in which they were read. problems: with directories. devices: by qualified name. conflicts:
    qualified names that several files of one directory have, and those files; these devices are not available.
    """

    files: tuple[SpecFile, ...]
    problems: tuple[str, ...]
    devices: Mapping[str, Provided]
    conflicts: Mapping[str, tuple[str, ...]]


def read(directories: Iterable[str]) -> Registry:
    """Read the directories; later ones take precedence."""
    files: list[SpecFile] = []
    problems: list[str] = []
    devices: dict[str, Provided] = {}
    conflicts: dict[str, tuple[str, ...]] = {}
    paths = {directory: _paths(directory, problems) for directory in _once(directories)}
    too_many = _left_out([path for found in paths.values() for path in found])
    for in_directory in paths.values():
        here: dict[str, list[Provided]] = {}
        for path in in_directory:
            found = _too_much(path) if path in too_many else _file(path)
            files.append(found)
            for provided in _provided(found):
                here.setdefault(provided.qualified_name, []).append(provided)
        for name, providers in here.items():
            conflicts.pop(name, None)
            devices.pop(name, None)
            if len(providers) == 1:
                devices[name] = providers[0]
            else:
                conflicts[name] = tuple(provided.path for provided in providers)
    return Registry(files=tuple(files), problems=tuple(problems), devices=devices, conflicts=conflicts)


def files(directories: Iterable[str]) -> list[str]:
    """Return the files that `read` would read now."""
    return [path for directory in _once(directories) for path in _paths(directory, [])]


def _provided(file: SpecFile) -> list[Provided]:
    found = file.specification
    return [Provided(path=file.path, specification=found, device=device) for device in found.devices] if found else []


def why_untrusted(path: str) -> str:
    """Return why a file is not trusted, "" if only root or this user can have written it.

    All directories that the path leads through count, also those of links on the way, because a user who can rename
    entries in one of them can replace the file.

    In a user namespace, as a rootless engine has one, the kernel shows what is root's as that of its overflow id. It
    does so with every owner whom the namespace does not map, so these count as root: of /etc and /var/run they are.
    """
    owners = (0, os.geteuid()) if rootless.in_first_user_namespace() else (0, os.geteuid(), rootless.OVERFLOW)
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return "is not a regular file"
        if not trust.is_trusted(found, *owners):
            return f"could be written by others (owner {found.st_uid}, mode {found.st_mode & 0o7777:04o})"
        for passed in passed_by(path):
            found = os.lstat(passed)
            owner = f"owner {found.st_uid}, mode {found.st_mode & 0o7777:04o}"
            if stat.S_ISLNK(found.st_mode):
                if found.st_uid not in owners:
                    return f"is reached by the link {quoted(passed)}, which others could exchange ({owner})"
            elif not (trust.is_trusted(found, *owners) or _keeps_others_files(found, owners)):
                return f"is below {quoted(passed)}, where others could exchange it ({owner})"
    except OSError as error:
        return f"cannot be looked at: {reason(error)}"
    return ""


def passed_by(path: str) -> Iterator[str]:
    """Yield the links that a path leads through, and the directories in which its and their components are looked up.

    Raises OSError for a path that leads nowhere.
    """
    left = os.path.abspath(path).split("/")[::-1]
    here = "/"
    links = 0
    while left:
        name = left.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        yield here
        below = os.path.join(here, name)
        if stat.S_ISLNK(os.lstat(below).st_mode) and links < _MOST_LINKS:
            links += 1
            yield below
            target = os.readlink(below)
            here = "/" if target.startswith("/") else here
            left += target.split("/")[::-1]
        else:
            here = below


def passed_by_all(paths: Iterable[str]) -> Iterator[str]:
    """Yield what any of the paths leads through, each once."""
    known: set[str] = set()
    for path in paths:
        try:
            found = [passed for passed in passed_by(path) if passed not in known]
        except OSError:
            continue
        known.update(found)
        yield from found


def _keeps_others_files(found: os.stat_result, owners: Collection[int]) -> bool:
    """Tell whether a directory that others can write protects root's files (sticky, like /tmp and /nix/store)."""
    return found.st_uid in owners and bool(found.st_mode & stat.S_ISVTX)


def _once(directories: Iterable[str]) -> list[str]:
    """Return the directories without duplicates (/var/run is /run under another name); the last place counts."""
    found: dict[tuple[int, int], str] = {}
    for directory in directories:
        try:
            status = os.stat(directory)
        except OSError:
            continue
        key = (status.st_dev, status.st_ino)
        found[key] = found.pop(key, directory)
    return list(found.values())


def _paths(directory: str, problems: list[str]) -> list[str]:
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(reading.SUFFIXES))
    except NotADirectoryError:
        problems.append(f"{quoted(directory)} is not a directory")
        return []
    except OSError as error:
        problems.append(f"{quoted(directory)} cannot be read: {reason(error)}")
        return []
    if len(names) > MOST_FILES:
        problems.append(f"{quoted(directory)} has {len(names)} specification files; the first {MOST_FILES} are read")
    paths = [os.path.join(directory, name) for name in names[:MOST_FILES]]
    return [path for path in paths if not os.path.isdir(path)]


def _left_out(paths: Iterable[str]) -> frozenset[str]:
    """Return the largest of the files, so many that the rest can be read in time."""
    sizes: dict[str, int] = {}
    for path in paths:
        try:
            sizes[path] = min(os.stat(path).st_size, text.LARGEST)  # no more of a larger one is read
        except OSError:
            continue
    total = sum(sizes.values())
    left_out = []
    for path, size in sorted(sizes.items(), key=lambda found: (-found[1], found[0])):
        if total <= limits.CDI_SPECS_TOGETHER:
            break
        left_out.append(path)
        total -= size
    return frozenset(left_out)


def _too_much(path: str) -> SpecFile:
    why = f"all files have more than {limits.CDI_SPECS_TOGETHER} bytes together, and it is one of the largest"
    return SpecFile(path=path, specification=None, problems=(f"{quoted(path)} is not read: {why}",))


def _file(path: str) -> SpecFile:
    untrusted = why_untrusted(path)
    if untrusted:
        return SpecFile(path=path, specification=None, problems=(f"{quoted(path)} is not read: {untrusted}",))
    try:
        # Opened without waiting for a writer, in case the file was replaced by a FIFO.
        data = read_file(path, text.LARGEST, flags=os.O_NONBLOCK)
    except OSError as error:
        return SpecFile(path=path, specification=None, problems=(f"{quoted(path)}: {reason(error)}",))
    found = reading.parse(data, is_json=path.endswith(".json"))
    problems = tuple(f"{quoted(path)}: {problem}" for problem in found.problems)
    return SpecFile(path=path, specification=found.specification, problems=problems)
