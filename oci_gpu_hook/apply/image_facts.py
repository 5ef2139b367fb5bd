"""Reading what a container's image is, as far as the plan depends on it: C library, library directories, ld cache.

It reads the rootfs through `Rootfs`, so an image can lie about itself but lead nowhere else.
"""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.oci.image import MACHINE, Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container

# Debian's multiarch triplet and the loader of each C library (gcc's config/*/linux*.h; musl's configure).
_TRIPLET: Final = f"{MACHINE}-linux-gnu"
_GLIBC_LOADER: Final = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "aarch64": "/lib/ld-linux-aarch64.so.1",
}
_MUSL_LOADER: Final = f"/lib/ld-musl-{MACHINE}.so.1"
_OUTSIDE_VOLUMES: Final = "/usr/local/nvidia/lib64"


def look(rootfs: Rootfs, container: Container, config: Config, kind: str) -> Image:
    """Return the facts of the container's rootfs, for devices of a kind. Raises InvalidInput."""
    libc = _libc(rootfs)
    directory, warnings = _library_directory(rootfs, libc)
    return Image(
        libc=libc,
        library_directory=directory,
        library_directory_32=_library_directory_32(rootfs),
        ld_cache=rootfs.read("/etc/ld.so.cache", limits.LD_CACHE),
        of_vendor=vendors.of(kind).image_facts(rootfs, container, config),
        warnings=warnings,
    )


def _libc(rootfs: Rootfs) -> str:
    if rootfs.exists(_GLIBC_LOADER.get(MACHINE, "/lib/ld-linux.so.2")):
        return "glibc"
    return "musl" if rootfs.exists(_MUSL_LOADER) else ""


def _library_directory(rootfs: Rootfs, libc: str) -> tuple[str, tuple[str, ...]]:
    """Return where the image keeps its libraries: NVIDIA's rule, but for musl, whose loader looks in /usr/lib only."""
    warnings: tuple[str, ...] = ()
    if rootfs.exists("/etc/debian_version"):
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


def _library_directory_32(rootfs: Rootfs) -> str:
    if MACHINE != "x86_64":
        return ""
    if rootfs.exists("/etc/debian_version"):
        return "/usr/lib/i386-linux-gnu"
    return "/usr/lib32" if rootfs.exists("/usr/lib32") else "/usr/lib"
