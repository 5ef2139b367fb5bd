"""Where a driver's other files are when its libraries are in a prefix of their own: bin and share beside lib64. Pure.

Container-Optimized OS has it so in /home/kubernetes/bin/nvidia or /var/lib/nvidia, others in /opt.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

_LIBRARIES: Final = ("lib64", "lib", "lib32")  # how the directory of libraries below a prefix is called


def of(directories: Iterable[str]) -> tuple[str, ...]:
    """Return the prefixes of library directories, without a slash at the end: "" for the root itself.

    A directory that is below none with such a name is one into which everything was put, or a neighbour of the others.
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


def library_directories(prefixes: Iterable[str]) -> Iterator[str]:
    """Yield where the libraries of the other word size may be."""
    for prefix in prefixes:
        yield from (f"{prefix}/{name}" for name in _LIBRARIES)


def program_directories(prefixes: Iterable[str]) -> Iterator[str]:
    """Yield where the programs may be."""
    for prefix in prefixes:
        yield from (f"{prefix}/bin", f"{prefix}/sbin", prefix or "/")


def data_directories(prefixes: Iterable[str]) -> Iterator[str]:
    """Yield where the data and configuration may be."""
    for prefix in prefixes:
        yield from (f"{prefix}/share", f"{prefix}/etc", prefix or "/")


def firmware_directories(prefixes: Iterable[str]) -> Iterator[str]:
    """Yield where the firmware may be."""
    for prefix in prefixes:
        yield from (f"{prefix}/firmware", f"{prefix}/lib/firmware")
