"""Finds libraries that an image's ld cache should list, by the image's ld.so.conf, and does not.

An image may name a directory in /etc/ld.so.conf.d, or put a library into such a directory, without running ldconfig
afterwards. With NVIDIA's hook such images work by chance, because it runs the host's ldconfig in every container with
GPUs. This project runs nothing: the container's cache is the image's with the driver's libraries added. So directories
that the cache does not know, and those that have changed since it was written, are read as ldconfig would read them
(glibc, elf/ldconfig.c). Existing entries of the cache stay unchanged.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.formats.ldcache import LONGEST_NAME, Entry, flags_for
from oci_gpu_hook.oci.image import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs

_CONFIGURATION: Final = "/etc/ld.so.conf"
_CACHE: Final = "/etc/ld.so.cache"
_VERSION_PARTS: Final = 6  # of a library's name: libfoo.so.1.2.3 has three, a hostile name as many as fit into it
# The loader searches these anyway; the multiarch ones are Debian's.
_DEFAULT: Final = frozenset(
    f"{start}/{end}".rstrip("/")
    for start in ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
    for end in ("", f"{MACHINE}-linux-gnu")
)


def find(rootfs: Rootfs, cache: bytes) -> tuple[Entry, ...]:
    """Return the libraries that ldconfig would add to the image's cache. cache: b"" if there is none."""
    listing = _Listing(rootfs)
    places = [path for path in _Configuration(rootfs, listing).directories() if path not in _DEFAULT]
    there = {path: status for path in places if (status := rootfs.status(path))}
    of_cache = rootfs.status(_CACHE) if there else None
    written = of_cache.st_mtime_ns if of_cache else 0
    suspect, settled = [], set()
    for path, status in there.items():
        if status.st_mtime_ns < written and os.fsencode(path) + b"/" in cache:
            settled.add(_identity(status))
        else:
            suspect.append(path)
    found = {path: names for path in suspect if (names := _libraries_in(listing, path))}
    if not found:
        return ()
    settled.update(_identity(status) for path in _DEFAULT if (status := rootfs.status(path)))
    listed = _listed(cache)
    entries: dict[bytes, Entry] = {}
    left = limits.UNLISTED_LIBRARIES  # to be looked into, whether or not anything comes of it
    for path, names in found.items():
        identity = _identity(there[path])
        if identity not in settled:  # unless the directory was read under another name
            settled.add(identity)
            unlisted = [name for name in names if not _is_version_of(name, listed)][:left]
            left -= len(unlisted)
            for entry in _libraries(rootfs, path, unlisted, frozenset(names), listed):
                entries.setdefault(os.fsencode(entry.name), entry)
    return tuple(entries.values())


def places(entries: Sequence[Entry]) -> str:
    """Return the directories of libraries as text for people."""
    from oci_gpu_hook.base.errors import quoted

    return ", ".join(quoted(path) for path in dict.fromkeys(os.path.dirname(entry.path) for entry in entries))


class _Listing:
    """Lists directories of the image; the limit on names applies to all of them together."""

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs = rootfs
        self._left = limits.LD_CONF_NAMES

    def names(self, directory: str) -> list[str]:
        """Return the names in a directory, sorted."""
        found = self._rootfs.names(directory, min(self._left, limits.DIRECTORY_NAMES)) if self._left else []
        self._left -= len(found)
        return found


class _Configuration:
    """The directories in /etc/ld.so.conf and the files that it includes; the limits apply to all of these together.

    A directory that is listed for a pattern counts as a file, even if nothing in it matches.
    """

    def __init__(self, rootfs: Rootfs, listing: _Listing) -> None:
        self._rootfs = rootfs
        self._listing = listing
        self._bytes_left = limits.LD_CONF
        self._files_left = limits.LD_CONF_FILES
        self._found: dict[str, None] = {}

    def directories(self) -> tuple[str, ...]:
        """Return the directories in order."""
        self._read(_CONFIGURATION, limits.LD_CONF_LEVELS)
        return tuple(self._found)

    def _read(self, path: str, depth: int) -> None:
        if not self._files_left:
            return
        self._files_left -= 1
        text = self._rootfs.read(path, self._bytes_left)
        self._bytes_left -= len(text)
        for line in text.split(b"\n"):
            words = line.partition(b"#")[0].split(None, 1)
            if words[:1] == [b"include"] and len(words) == 2 and depth:
                for pattern in words[1].split():
                    self._include(os.path.dirname(path), os.fsdecode(pattern), depth - 1)
            elif len(words) == 1 and words[0].startswith(b"/") and b"\0" not in words[0]:
                if len(self._found) == limits.LD_CONF_DIRECTORIES:
                    return
                name = os.fsdecode(words[0].partition(b"=")[0])  # a suffix such as `=libc5`
                self._found["/" + os.path.normpath(name).lstrip("/")] = None

    def _include(self, base: str, pattern: str, depth: int) -> None:
        """Read the files that match a pattern: a path, or paths with a `*` in the last part."""
        directory, name = os.path.split(os.path.join(base, pattern))
        start, star, end = name.partition("*")
        names = [name]
        if star:
            if not self._files_left:
                return
            self._files_left -= 1
            names = [
                each
                for each in self._listing.names(directory)
                if len(each) >= len(start) + len(end) and each.startswith(start) and each.endswith(end)
            ]
        for each in names:
            if "\0" not in each and not (star and each.startswith(".")):
                self._read(f"{directory}/{each}", depth)


def _libraries_in(listing: _Listing, directory: str) -> list[str]:
    return [name for name in listing.names(directory) if ".so" in name and name.startswith(("lib", "ld-"))]


def _libraries(
    rootfs: Rootfs, directory: str, names: Sequence[str], present: Container[str], listed: Container[bytes]
) -> Iterator[Entry]:
    """Yield unlisted libraries for this machine, by their SONAMEs and by names that end in `.so`.

    names: the files to look into. present: all names in the directory.
    """
    from oci_gpu_hook.base.formats import elf

    machines = {"x86_64": {64: elf.X86_64, 32: elf.I386}, "aarch64": {64: elf.AARCH64}}.get(MACHINE, {})
    for name in names:
        fd = rootfs.open_file(f"{directory}/{name}")
        if fd is None:
            continue
        try:
            found = elf.read(fd)
        except (OSError, elf.ElfError):  # a linker script, or not a library at all
            continue
        finally:
            os.close(fd)
        if machines.get(found.bits) != found.machine:
            continue
        soname = found.soname if found.soname and "/" not in found.soname else name
        for each in (soname, name) if name.endswith(".so") else (soname,):
            encoded = os.fsencode(each)
            if encoded not in listed and len(encoded) <= LONGEST_NAME:
                path = f"{directory}/{each if each in present else name}"
                yield Entry(name=each, path=path, flags=flags_for(MACHINE, found.bits))


def _is_version_of(name: str, listed: Container[bytes]) -> bool:
    """Tell whether a file need not be read: it is listed, or is libfoo.so.1.2.3 and libfoo.so.1 is listed."""
    for _ in range(_VERSION_PARTS):
        if os.fsencode(name) in listed:
            return True
        name = name.rpartition(".")[0]
        if ".so" not in name:
            break
    return False


def _listed(cache: bytes) -> frozenset[bytes]:
    """Return the names that a cache lists, none if the loader cannot use it."""
    from oci_gpu_hook.base.formats.ldcache_format import KEY, LdCacheError, read

    if not cache:
        return frozenset()
    try:
        table = read(cache)
        return frozenset(table.string(key) for key in {entry[KEY] for entry in table.entries})
    except LdCacheError:
        return frozenset()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
