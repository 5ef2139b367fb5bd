"""Libraries in directories of an image's ld.so.conf of which its ld cache knows nothing.

An image may name a directory in /etc/ld.so.conf.d and never have run ldconfig. NVIDIA's hook runs the host's ldconfig
in every container with GPUs, and so such images work there by chance; here nothing is run, and the container's cache is
the image's with the driver's libraries. So these directories, and no others, are looked at as ldconfig would (glibc,
elf/ldconfig.c): what the cache lists already stays as it is, and a directory that it knows is not looked at again.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.formats.ldcache import LONGEST_NAME, Entry, flags_for
from oci_gpu_hook.oci.image import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs

_CONFIGURATION: Final = "/etc/ld.so.conf"
_LARGEST_FILE: Final = 64 * 1024
_MOST_FILES: Final = 64
_MOST_DIRECTORIES: Final = 64
_MOST_LIBRARIES: Final = 256
_DEEPEST: Final = 4  # files that include files
# The loader searches these by itself; the multiarch ones are Debian's.
_DEFAULT: Final = frozenset(
    f"{start}/{end}".rstrip("/")
    for start in ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
    for end in ("", f"{MACHINE}-linux-gnu")
)


def find(rootfs: Rootfs, cache: bytes) -> tuple[Entry, ...]:
    """Return the libraries that ldconfig would list beside those of the cache. cache: the image's, b"" for none."""
    text = rootfs.read(_CONFIGURATION, _LARGEST_FILE)
    if not text:
        return ()
    directories = tuple(dict.fromkeys(_directories(rootfs, _CONFIGURATION, text, [_MOST_FILES], _DEEPEST)))
    unknown = []
    for path in directories[:_MOST_DIRECTORIES]:
        if path not in _DEFAULT and os.fsencode(path) + b"/" not in cache:
            names = [name for name in rootfs.names(path) if ".so" in name and name.startswith(("lib", "ld-"))]
            if names:
                unknown.append((path, names))
    if not unknown:
        return ()
    seen = {_identity(rootfs, path) for path in (*_DEFAULT, *directories) if path not in dict(unknown)}
    entries: dict[str, Entry] = {}
    for path, names in unknown:
        identity = _identity(rootfs, path)
        if identity not in seen:  # by another name it is one that the cache knows
            seen.add(identity)
            for entry in _libraries(rootfs, path, names, _MOST_LIBRARIES - len(entries)):
                if not _lists(cache, entry.name):
                    entries.setdefault(entry.name, entry)
    return tuple(entries.values())


def places(entries: Sequence[Entry]) -> str:
    """Return the directories of libraries, for people."""
    from oci_gpu_hook.base.errors import quoted

    return ", ".join(quoted(path) for path in dict.fromkeys(os.path.dirname(entry.path) for entry in entries))


def _directories(rootfs: Rootfs, path: str, text: bytes, files_left: list[int], depth: int) -> Iterator[str]:
    """Yield the directories that a file names, and those of the files that it includes, in that order."""
    for line in text.split(b"\n"):
        words = line.partition(b"#")[0].split(None, 1)
        if words[:1] == [b"include"] and len(words) == 2 and depth:
            for pattern in words[1].split():
                yield from _included(rootfs, os.path.dirname(path), os.fsdecode(pattern), files_left, depth - 1)
        elif len(words) == 1 and words[0].startswith(b"/") and b"\0" not in words[0]:
            yield os.path.normpath(os.fsdecode(words[0].partition(b"=")[0])).replace("//", "/")


def _included(rootfs: Rootfs, base: str, pattern: str, files_left: list[int], depth: int) -> Iterator[str]:
    """Yield the directories of the files that a pattern means: a path, or one with a `*` in its last part."""
    directory, name = os.path.split(os.path.join(base, pattern))
    start, star, end = name.partition("*")
    names = [name]
    if star:
        names = [
            each
            for each in rootfs.names(directory)
            if len(each) >= len(start) + len(end) and each.startswith(start) and each.endswith(end) and each[0] != "."
        ]
    for each in names:
        if not files_left[0]:
            return
        files_left[0] -= 1
        path = f"{directory}/{each}"
        yield from _directories(rootfs, path, rootfs.read(path, _LARGEST_FILE), files_left, depth)


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


def _lists(cache: bytes, name: str) -> bool:
    """Tell whether a cache has the name; in its strings it may be the end of a path."""
    word = os.fsencode(name) + b"\0"
    return b"/" + word in cache or b"\0" + word in cache


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
