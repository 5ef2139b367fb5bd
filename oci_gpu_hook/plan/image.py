"""What the container's image is, as far as the plan depends on it: C library, library directories, ld cache.

It reads the rootfs through `Rootfs`, so an image can lie about itself but lead nowhere else.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container

MACHINE: Final = os.uname().machine
# Debian's multiarch triplet and the loader of each C library (gcc's config/*/linux*.h; musl's configure).
_TRIPLET: Final = f"{MACHINE}-linux-gnu"
_GLIBC_LOADER: Final = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "aarch64": "/lib/ld-linux-aarch64.so.1",
}
_MUSL_LOADER: Final = f"/lib/ld-musl-{MACHINE}.so.1"
_LARGEST_CACHE: Final = 16 * 1024 * 1024
_COMPAT_DIRECTORY: Final = "/usr/local/cuda/compat"
_OUTSIDE_VOLUMES: Final = "/usr/local/nvidia/lib64"
_PROC: Final = ("/proc/driver/nvidia", "/proc/driver")


class CompatLibrary(Record):
    """A CUDA forward-compatibility library that the image ships (/usr/local/cuda/compat/libcuda.so.*).

    note: the JSON text of its ELF note .note.cuda.fwd_compatibility, "" where it has none.
    regular: whether it is a library itself, no symbolic link to one and nothing else.
    """

    path: str
    note: str
    regular: bool = True


class Image(Record):
    """Facts of a rootfs. Paths are the container's. library_directory_32 is "" where there is no place for them.

    libc: "glibc", "musl" or "" (neither loader found). ld_cache: the bytes of /etc/ld.so.cache, b"" without one.
    procfs: where a file system in the place of /proc/driver/nvidia is mounted, "" where the container has no /proc.
    volume: the directory of nvidia-docker 1's volume, "" where none is asked for.
    """

    libc: str
    library_directory: str
    library_directory_32: str = ""
    ld_cache: bytes = b""
    compat: tuple[CompatLibrary, ...] = ()
    procfs: str = ""
    volume: str = ""
    warnings: tuple[str, ...] = ()


def look(rootfs: Rootfs, container: Container, config: Config) -> Image:
    """Return the facts of the container's rootfs."""
    libc = _libc(rootfs)
    directory, warnings = _library_directory(rootfs, libc)
    return Image(
        libc=libc,
        library_directory=directory,
        library_directory_32=_library_directory_32(rootfs),
        ld_cache=rootfs.read("/etc/ld.so.cache", _LARGEST_CACHE),
        compat=_compat(rootfs, look_inside=config.cuda_compat_mode != "disabled"),
        procfs=_procfs(container),
        volume=_volume(container, config),
        warnings=warnings,
    )


def _volume(container: Container, config: Config) -> str:
    asks = (
        any("OCI_GPU_VOLUME" in entry for entry in container.env) or "io.oci-gpu-hook.volume" in container.annotations
    )
    if not (asks or config.driver_volume):
        return ""
    from oci_gpu_hook.plan import volume

    return volume.asked(container, config)


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


def _compat(rootfs: Rootfs, *, look_inside: bool) -> tuple[CompatLibrary, ...]:
    names = [name for name in rootfs.names(_COMPAT_DIRECTORY) if name.startswith("lib") and ".so." in name]
    paths = [f"{_COMPAT_DIRECTORY}/{name}" for name in names]
    return tuple(_compat_library(rootfs, path) if look_inside else CompatLibrary(path=path, note="") for path in paths)


def _compat_library(rootfs: Rootfs, path: str) -> CompatLibrary:
    if not os.path.basename(path).startswith("libcuda.so."):
        return CompatLibrary(path=path, note="")
    if not _is_regular(rootfs, path):
        return CompatLibrary(path=path, note="", regular=False)
    from oci_gpu_hook.base.formats import elf

    fd = rootfs.open_file(path)
    if fd is None:
        return CompatLibrary(path=path, note="")
    try:
        return CompatLibrary(path=path, note=elf.forward_compatibility_note(fd))
    except elf.ElfError:
        return CompatLibrary(path=path, note="", regular=False)  # no loader would take it
    finally:
        os.close(fd)


def _is_regular(rootfs: Rootfs, path: str) -> bool:
    try:
        fd = rootfs.resolve(path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _procfs(container: Container) -> str:
    """Return where to mount: the driver's directory is in every procfs alike; a simulated host has only its parent."""
    if not any(mount.destination == "/proc" for mount in container.mounts):
        return ""
    return next((path for path in _PROC if os.path.isdir(path)), "")
