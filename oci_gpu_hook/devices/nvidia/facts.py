"""The facts that a stored inventory depends on. They are gathered by stat and /proc alone, at every container's start.

The form is JSON's own (lists, not tuples), so that facts just gathered compare with facts that were stored.
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

FORMAT: Final = 4
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"  # this machine's, whatever proc-root says
_OF_PRESENT: Final = -3  # where in the facts they are
_OF_TEXTS: Final = -2
_ONES: Final = b"\xff" * 8
TICK: Final = 10_000_000  # nanoseconds between two times of a file system, CONFIG_HZ=100


def gather(
    config: Config,
    minors: Iterable[int],
    watched: Sequence[str],
    present: Sequence[str],
    texts: Sequence[str] = (),
) -> list[Any]:
    """Return the facts, those of the watched paths last. minors: of the GPUs.

    watched: host paths that count by their identity; present: those that count by being there; texts: small files that
    count by what is in them.
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
    """Return what changes when the file or directory at a path does, links followed; None where nothing is there.

    What has no size counts by its inode alone: a file of procfs has the time at which it was last brought into memory.
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
    """Return what kind of thing is at a path and whose, links not followed; None where nothing is there."""
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
    """Return facts gathered before with those about present paths and texts that were gathered now, for more paths."""
    return [*before[:_OF_PRESENT], now[_OF_PRESENT], now[_OF_TEXTS], before[-1]]


def silent(sys_root: str, names: Iterable[str]) -> list[str]:
    """Return those PCI devices that do not answer any more: every read of one that has fallen off the bus gives ones.

    /proc does not tell: the driver goes on showing what it once knew. A device that sleeps is not asked, which would
    wake it. Source: Linux drivers/pci/pci-sysfs.c, pci_read_config.
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
            # Each four bytes are a read of the bus, in a virtual machine 10 µs. The first four of a virtual function
            # are ones by the specification, the next are not.
            if read_start(f"{device}/config", 4) == _ONES[:4] and read_start(f"{device}/config", 8) == _ONES:
                found.append(name)
        except OSError:
            continue
    return found


def mig_instances(proc_root: str, minor: int) -> list[list[int]]:
    """Return [GPU instance, compute instance, inode, time] of each MIG device of a GPU, ordered by the first two.

    An instance made again under an old number has another inode or time. A time also changes when the kernel drops the
    entry from memory; then the inventory is made again, which costs only time.
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
