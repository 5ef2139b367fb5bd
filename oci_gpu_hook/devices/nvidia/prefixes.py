"""The directories of a driver: where distributions put it, and what belongs to a driver in its own prefix.

Such a prefix has bin and share beside lib64. Container-Optimized OS uses /home/kubernetes/bin/nvidia or
/var/lib/nvidia, others use /opt. Pure.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

_LIBRARIES: Final = ("lib64", "lib", "lib32")  # names of library directories below a prefix

_MULTIARCH: Final = {"x86_64": ("x86_64-linux-gnu", "i386-linux-gnu"), "aarch64": ("aarch64-linux-gnu",)}


def of(directories: Iterable[str]) -> tuple[str, ...]:
    """Return the prefixes of library directories, without a final slash: "" for the root itself.

    A directory without such a name in its path may hold all files itself, or have sibling directories for the others.
    """
    found: dict[str, None] = {}
    for directory in directories:
        parts = directory.rstrip("/").split("/")
        at = max((index for index, part in enumerate(parts) if part in _LIBRARIES), default=0)
        if at:
            found["/".join(parts[:at])] = None
        else:
            found[directory.rstrip("/")] = None
            found["/".join(parts[:-1])] = None
    return tuple(found)


def library_directories(prefixes: Iterable[str], machine: str) -> Iterator[str]:
    """Yield where the libraries of the other word size may be."""
    for prefix in prefixes:
        yield from (f"{prefix}/{name}" for name in _LIBRARIES)
        yield from (f"{prefix}/lib/{triplet}" for triplet in _MULTIARCH.get(machine, ()))


def program_directories(prefixes: Iterable[str]) -> Iterator[str]:
    """Yield where the programs may be."""
    for prefix in prefixes:
        yield from (f"{prefix}/bin", f"{prefix}/sbin", prefix or "/")


def data_directories(prefixes: Iterable[str]) -> Iterator[str]:
    """Yield where the data and configuration may be: of a prefix X/usr, as of a root at X, also in X/etc."""
    for prefix in prefixes:
        yield from (f"{prefix}/share", f"{prefix}/etc", prefix or "/")
        if prefix.endswith("/usr"):
            yield f"{prefix.removesuffix('/usr')}/etc"


def firmware_directories(prefixes: Iterable[str]) -> Iterator[str]:
    """Yield where the firmware may be."""
    for prefix in prefixes:
        yield from (f"{prefix}/firmware", f"{prefix}/lib/firmware")


def usual_directories(machine: str) -> Iterator[str]:
    """Yield where distributions put libraries."""
    for triplet in _MULTIARCH.get(machine, ()):
        yield f"/usr/lib/{triplet}"  # Debian, Ubuntu
        yield f"/usr/lib/{triplet}/nvidia"
    yield "/usr/lib64"  # Fedora, SUSE
    yield "/usr/lib64/nvidia"
    yield "/usr/local/nvidia/lib64"  # nvidia-docker 1.x volumes, GKE, clouds
    yield "/usr/local/nvidia/lib"
    yield "/run/opengl-driver/lib"  # NixOS
    yield "/run/opengl-driver-32/lib"
    yield "/usr/lib/nvidia"  # others that keep it apart
    yield "/usr/lib/nvidia/tesla"  # Bottlerocket
    yield "/usr/local/glibc/usr/lib64"  # Talos, whose own C library is musl's
    yield "/usr/local/glibc/usr/lib"
    yield "/opt/nvidia/current/usr/lib64"  # Flatcar
    yield "/usr/local/lib"  # Talos before
    yield "/usr/lib"  # Arch; 32-bit files on Fedora
    yield "/usr/lib32"
    yield "/usr/lib32/nvidia"
    yield "/home/kubernetes/bin/nvidia/lib64"  # Container-Optimized OS, of GKE
    yield "/var/lib/nvidia/lib64"  # and by itself
    yield "/lib64"  # a driver root that is the prefix of a driver
    yield "/lib"
    yield "/lib32"
