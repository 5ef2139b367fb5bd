"""Libraries in directories of an image's ld.so.conf of which its ld cache knows nothing.

An image may name a directory in /etc/ld.so.conf.d and never have run ldconfig. NVIDIA's hook runs the host's ldconfig
in every container with GPUs, and so such images work there by chance; here nothing is run, and the container's cache is
the image's with the driver's libraries. So these directories, and no others, are looked at as ldconfig would (glibc,
elf/ldconfig.c): what the cache lists already stays as it is, and a directory that it knows is not looked at again.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.formats.ldcache import LONGEST_NAME, Entry, flags_for
from oci_gpu_hook.oci.image import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs

_CONFIGURATION: Final = "/etc/ld.so.conf"
# The loader searches these by itself; the multiarch ones are Debian's.
_DEFAULT: Final = frozenset(
    f"{start}/{end}".rstrip("/")
    for start in ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
    for end in ("", f"{MACHINE}-linux-gnu")
)


def find(rootfs: Rootfs, cache: bytes) -> tuple[Entry, ...]:
    """Return the libraries that ldconfig would list beside those of the cache. cache: the image's, b"" for none."""
    directories = _Configuration(rootfs).directories()
    unknown = {}
    for path in directories:
        if path not in _DEFAULT and os.fsencode(path) + b"/" not in cache:
            names = [name for name in rootfs.names(path) if ".so" in name and name.startswith(("lib", "ld-"))]
            if names:
                unknown[path] = names
    if not unknown:
        return ()
    seen = {_identity(rootfs, path) for path in (*_DEFAULT, *directories) if path not in unknown}
    listed = _names(cache)
    entries: dict[str, Entry] = {}
    for path, names in unknown.items():
        identity = _identity(rootfs, path)
        if identity not in seen:  # by another name it is one that the cache knows
            seen.add(identity)
            for entry in _libraries(rootfs, path, names, limits.UNLISTED_LIBRARIES - len(entries)):
                if os.fsencode(entry.name) not in listed:
                    entries.setdefault(entry.name, entry)
    return tuple(entries.values())


def places(entries: Sequence[Entry]) -> str:
    """Return the directories of libraries, for people."""
    from oci_gpu_hook.base.errors import quoted

    return ", ".join(quoted(path) for path in dict.fromkeys(os.path.dirname(entry.path) for entry in entries))


class _Configuration:
    """What /etc/ld.so.conf and the files that it includes name, within limits that hold for all of them together."""

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs = rootfs
        self._bytes_left = limits.LD_CONF
        self._files_left = limits.LD_CONF_FILES
        self._found: dict[str, None] = {}

    def directories(self) -> tuple[str, ...]:
        """Return the directories in the order in which they are named."""
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
                name = os.fsdecode(words[0].partition(b"=")[0])  # libc5 and its like stood behind a `=`
                self._found["/" + os.path.normpath(name).lstrip("/")] = None

    def _include(self, base: str, pattern: str, depth: int) -> None:
        """Read the files that a pattern means: a path, or paths with a `*` in their last part."""
        directory, name = os.path.split(os.path.join(base, pattern))
        start, star, end = name.partition("*")
        names = [name]
        if star and self._files_left:
            names = [
                each
                for each in self._rootfs.names(directory)
                if len(each) >= len(start) + len(end) and each.startswith(start) and each.endswith(end)
            ]
        for each in names:
            if "\0" not in each and not (star and each.startswith(".")):
                self._read(f"{directory}/{each}", depth)


def _libraries(rootfs: Rootfs, directory: str, names: Sequence[str], most: int) -> Iterator[Entry]:
    """Yield the libraries of this machine in a directory by their file names, and by SONAMEs that no file has."""
    from oci_gpu_hook.base.formats import elf

    machines = {"x86_64": {64: elf.X86_64, 32: elf.I386}, "aarch64": {64: elf.AARCH64}}.get(MACHINE, {})
    present = frozenset(names)
    for name in names[:most]:
        path = f"{directory}/{name}"
        fd = rootfs.open_file(path)
        if fd is None:
            continue
        try:
            found = elf.read(fd)
        except (OSError, elf.ElfError):  # a linker's script, or no library at all
            continue
        finally:
            os.close(fd)
        if machines.get(found.bits) != found.machine:
            continue
        soname = found.soname
        listed = soname if soname and "/" not in soname and soname not in present else name
        if len(os.fsencode(listed)) <= LONGEST_NAME:
            yield Entry(name=listed, path=path, flags=flags_for(MACHINE, found.bits))


def _names(cache: bytes) -> frozenset[bytes]:
    """Return the names that a cache lists, none where the loader has no use for it."""
    from oci_gpu_hook.base.formats.ldcache_format import KEY, LdCacheError, read

    if not cache:
        return frozenset()
    try:
        table = read(cache)
        return frozenset(table.string(key) for key in {entry[KEY] for entry in table.entries})
    except LdCacheError:
        return frozenset()


def _identity(rootfs: Rootfs, path: str) -> tuple[int, int] | None:
    try:
        fd = rootfs.resolve(path)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    return status.st_dev, status.st_ino
