"""Reads the facts of a container's image that the plan depends on: C library, library directories, ld cache.

It reads the rootfs through `Rootfs`, so an image can lie about itself, but cannot lead the hook out of the rootfs.
"""

from __future__ import annotations

from oci_gpu_hook.apply import unlisted_libraries
from oci_gpu_hook.base import limits
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.oci.image import MACHINE, Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.base.formats.ldcache import Entry
    from oci_gpu_hook.oci.container import Container

# Debian's multiarch triplet and the loader of each C library (gcc's config/*/linux*.h; musl's configure).
_TRIPLET: Final = f"{MACHINE}-linux-gnu"
_GLIBC_LOADER: Final = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "aarch64": "/lib/ld-linux-aarch64.so.1",
}
_LOADER: Final = _GLIBC_LOADER.get(MACHINE, "/lib/ld-linux.so.2")
_LOADER_END: Final = 64 << 10  # bytes; the strings come after the code, in the last 50 KB in glibc 2.36 to 2.43
_CACHE_PATH: Final = b"/etc/ld.so.cache\0"
_MUSL_LOADER: Final = f"/lib/ld-musl-{MACHINE}.so.1"
_OUTSIDE_VOLUMES: Final = "/usr/local/nvidia/lib64"


def look(rootfs: Rootfs, container: Container, config: Config, kind: str) -> Image:
    """Return the facts of the container's rootfs for devices of a kind. Raises InvalidInput.

    What CDI specifications describe depends on none of them.
    """
    if kind not in vendors.KINDS:
        return Image(libc="", library_directory="")
    libc = _libc(rootfs)
    directory, warnings = _library_directory(rootfs, libc)
    if libc != "glibc":
        warnings += _of_odd_loader(rootfs, container, libc, directory)
    cache = rootfs.read("/etc/ld.so.cache", limits.LD_CACHE)
    unlisted = unlisted_libraries.find(rootfs, cache) if libc == "glibc" else ()
    return Image(
        libc=libc,
        library_directory=directory,
        library_directory_32=_library_directory_32(rootfs, directory),
        ld_cache=cache,
        searched=bool(cache) or libc != "glibc" or _is_searched(rootfs, container, directory),
        unlisted=unlisted,
        decisions=_of_stale_cache(unlisted) if unlisted else (),
        of_vendor=vendors.of(kind).image_facts(rootfs, container, config),
        warnings=warnings,
    )


def _libc(rootfs: Rootfs) -> str:
    """Return "glibc" if the image's loader reads /etc/ld.so.cache, "musl" for musl's loader, otherwise "".

    A file at the path of glibc's loader may be something else (gcompat), or use another cache (Nix, Guix). Its end is
    usually enough: to read all of it, 220 KB, costs a start fifty page faults.
    """
    if _reads_cache(_loader(rootfs, _LOADER_END)) or _reads_cache(_loader(rootfs)):
        return "glibc"
    return "musl" if rootfs.exists(_MUSL_LOADER) else ""


def _loader(rootfs: Rootfs, last: int | None = None) -> bytes:
    """Return the image's loader, b"" if there is none. last: how many bytes at its end to return, None for all."""
    return rootfs.read(_LOADER, limits.LOADER, last)


def _reads_cache(loader: bytes) -> bool:
    """Tell whether a loader contains the path of the cache, and not only as the end of a longer path.

    The search begins at the end, since strings come after the code.
    """
    at = loader.rfind(_CACHE_PATH)
    while at > 0:
        if not 0x20 < loader[at - 1] < 0x7F:
            return True
        at = loader.rfind(_CACHE_PATH, 0, at)
    return False


def _is_searched(rootfs: Rootfs, container: Container, directory: str) -> bool:
    """Tell whether the loader looks into a directory without a cache that says so: into its own, and LD_LIBRARY_PATH's.

    Its own are among its strings, each with a slash at the end (glibc, elf/dl-load.c: system_dirs).
    """
    loader = _loader(rootfs)
    if f"{directory}/\0".encode() in loader:
        return True
    from oci_gpu_hook.apply import odd_loaders

    if directory in odd_loaders.search_paths(container.env):
        return True
    return b"/usr/lib/\0" in loader and _are_one(rootfs, directory, "/usr/lib")


def _of_stale_cache(unlisted: Sequence[Entry]) -> tuple[str, ...]:
    where = unlisted_libraries.places(unlisted)
    found = f"{len(unlisted)} librar{'y' if len(unlisted) == 1 else 'ies'}"
    return (f"the image's ld cache lacks {found} in {where}, which its ld.so.conf names: they are added to it",)


def _of_odd_loader(rootfs: Rootfs, container: Container, libc: str, directory: str) -> tuple[str, ...]:
    from oci_gpu_hook.apply import odd_loaders

    if libc == "musl":
        found = odd_loaders.of_musl(rootfs, container.env, directory)
    else:
        found = odd_loaders.warning(rootfs, container.env, directory, _LOADER)
    return (found,) if found else ()


def _library_directory(rootfs: Rootfs, libc: str) -> tuple[str, tuple[str, ...]]:
    """Return the image's library directory by NVIDIA's rule; for musl it is /usr/lib, where its loader looks."""
    warnings: tuple[str, ...] = ()
    if _is_debian(rootfs):
        directory = f"/usr/lib/{_TRIPLET}"
    elif libc == "musl":
        directory = "/usr/lib"
        warnings = ("the image is built on musl: NVIDIA's libraries need glibc or a stand-in for it such as gcompat",)
    else:
        directory = "/usr/lib64"
    if rootfs.is_volume(directory):
        warnings += (f"{directory} is a volume of the host: the driver's libraries go to {_OUTSIDE_VOLUMES} instead",)
        directory = _OUTSIDE_VOLUMES
    return directory, warnings


def _is_debian(rootfs: Rootfs) -> bool:
    """Tell whether libraries lie by the triplet. Where a volume hides the file that says so, the loader knows it."""
    if rootfs.exists("/etc/debian_version"):
        return True
    return rootfs.is_volume("/etc") and f"/usr/lib/{_TRIPLET}/\0".encode() in _loader(rootfs)


def _library_directory_32(rootfs: Rootfs, directory: str) -> str:
    """Return the place of 32-bit libraries, "" where it would be that of the others, whose names are the same."""
    if MACHINE != "x86_64":
        return ""
    if directory.endswith(_TRIPLET) or rootfs.exists("/etc/debian_version"):
        return "/usr/lib/i386-linux-gnu"
    narrow = "/usr/lib32" if rootfs.exists("/usr/lib32") else "/usr/lib"
    return "" if _are_one(rootfs, directory, narrow) else narrow


def _are_one(rootfs: Rootfs, one: str, other: str) -> bool:
    """Tell whether two paths are the same, or lead to the same directory."""
    if one == other:
        return True
    first, second = rootfs.status(one), rootfs.status(other)
    return first is not None and second is not None and first[1:3] == second[1:3]  # inode and device
