"""Gathers the facts that a stored inventory depends on, at every container's start, only by stat and from /proc.

They have JSON's types (lists, not tuples), so that they can be compared with stored facts.
"""

from __future__ import annotations

import os

from oci_gpu_hook import __version__
from oci_gpu_hook.base.files import read_start, read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config

FORMAT: Final = 6
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"  # this machine's, independent of proc-root
_OF_PRESENT: Final = -3  # the index in the facts
_OF_TEXTS: Final = -2
_ONES: Final = b"\xff" * 8
TICK: Final = 10_000_000  # resolution of file times in nanoseconds, CONFIG_HZ=100


def gather(
    config: Config,
    minors: Iterable[int],
    watched: Sequence[str],
    present: Sequence[str],
    texts: Sequence[str] = (),
) -> list[Any]:
    """Return the facts, with those of the watched paths last. minors: of the GPUs.

    watched: host paths whose identity matters; present: paths whose existence matters; texts: small files whose
    contents matter.
    """
    gpus = _names(f"{config.proc_root}/driver/nvidia/gpus")
    guarded = _names(f"{config.proc_root}/driver/nvidia/capabilities")
    return [
        FORMAT,
        __version__,
        read_text(f"{config.proc_root}/driver/nvidia/version") or "",
        read_text(_BOOT_ID) or "",
        [config.driver_root, config.dev_root, config.proc_root, config.sys_root, *config.library_search_paths],
        gpus,
        silent(config.sys_root, gpus),
        [mig_instances(config.proc_root, minor) if f"gpu{minor}" in guarded else [] for minor in minors],
        _presences(present),
        [read_text(path) or "" for path in texts],
        _identities(watched),
    ]


def _identities(paths: Sequence[str]) -> list[list[int] | None]:
    """Return values that change with the file or directory at a path, links followed; None if nothing is there.

    A file without a size is identified by its inode alone, since files of procfs have the time of their last loading.
    """
    found: list[list[int] | None] = []
    stat = os.stat
    for path in paths:
        try:
            status = stat(path)
        except OSError:
            found.append(None)
            continue
        size = status.st_size
        if size:
            found.append([status.st_dev, status.st_ino, size, status.st_mtime_ns])
        else:
            found.append([status.st_ino])
    return found


def _presences(paths: Sequence[str]) -> list[list[int] | None]:
    """Return the type and owner of what is at a path, links not followed; None if nothing is there."""
    found: list[list[int] | None] = []
    for path in paths:
        try:
            status = os.lstat(path)
        except OSError:
            found.append(None)
            continue
        found.append([status.st_mode, status.st_uid, status.st_rdev])
    return found


def extended(before: list[Any], now: list[Any]) -> list[Any]:
    """Return earlier facts, with those about present paths and texts replaced by new ones for more paths."""
    return [*before[:_OF_PRESENT], now[_OF_PRESENT], now[_OF_TEXTS], before[-1]]


def silent(sys_root: str, names: Iterable[str]) -> list[str]:
    """Return the PCI devices that no longer answer: all bits read from a device that fell off the bus are ones.

    /proc does not show that, since the driver keeps showing what it knew. A sleeping device is not read, because that
    would wake it. Source: Linux drivers/pci/pci-sysfs.c, pci_read_config.
    """
    found = []
    for name in names:
        device = f"{sys_root}/bus/pci/devices/{name}"
        try:
            if read_start(f"{device}/power/runtime_status", 16).startswith(b"susp"):
                continue
        except OSError:
            pass  # a kernel without power management
        try:
            # Every four bytes are one read on the bus, which takes 10 µs in a virtual machine. By the specification the
            # first four bytes of a virtual function are ones, but the next four are not.
            if read_start(f"{device}/config", 4) == _ONES[:4] and read_start(f"{device}/config", 8) == _ONES:
                found.append(name)
        except OSError:
            continue
    return found


def mig_instances(proc_root: str, minor: int) -> list[list[int]]:
    """Return [GPU instance, compute instance, inode, time] for each MIG device of a GPU, sorted by the first two.

    A new instance with an old number has another inode or time. The time also changes when the kernel drops the entry
    from memory; then the inventory is made again, which only costs time.
    """
    if minor < 0:
        return []
    directory = f"{proc_root}/driver/nvidia/capabilities/gpu{minor}/mig"
    found: list[list[int]] = []
    names = _names(directory)
    if not names:
        return found
    for gpu_instance in _numbers(names, "gi"):
        below = f"{directory}/gi{gpu_instance}"
        for compute_instance in _numbers(_names(below), "ci"):
            try:
                status = os.stat(f"{below}/ci{compute_instance}")
            except OSError:
                continue
            found.append([gpu_instance, compute_instance, status.st_ino, status.st_mtime_ns])
    return found


def _numbers(names: Sequence[str], start: str) -> list[int]:
    numbers = [name[len(start) :] for name in names if name.startswith(start)]
    return sorted(int(number) for number in numbers if number.isdecimal())


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
