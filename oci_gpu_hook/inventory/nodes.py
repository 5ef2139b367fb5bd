"""Which device nodes the host may have for containers. They are looked at anew at every start (inventory/cache.py)."""

from __future__ import annotations

import os

from oci_gpu_hook.inventory.capabilities import NODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.inventory.model import Gpu

    Candidate = tuple[str, tuple[str, ...], bool]

# Directories that hold nodes of one kind only: a node more or less changes their times, and so the cache's facts.
DIRECTORIES: Final = ("/dev/nvidia-caps", "/dev/nvidia-caps-imex-channels", "/dev/infiniband", "/dev/dri")
# The first node of a feature; /dev itself changes too often to be a fact.
FIRST_NODES: Final = ("/dev/nvidia-fs0", "/dev/nvidia-nvswitchctl", "/dev/gdrdrv")


def candidates(dev_root: str, gpus: Sequence[Gpu]) -> tuple[Candidate, ...]:
    """Return (path as containers see it, capabilities that bring it, whether it is expected) of each node."""
    found: dict[str, tuple[tuple[str, ...], bool]] = {}
    for row in NODES:
        for path in _expanded(dev_root, row.path):
            found.setdefault(path, (row.capabilities, row.expected))
    for gpu in gpus:
        if gpu.minor >= 0:
            found[f"/dev/nvidia{gpu.minor}"] = ((), False)
        for name in gpu.drm:
            found[f"/dev/dri/{name}"] = ((), False)
    for path in ("/dev/nvidia-caps/nvidia-cap*", "/dev/nvidia-caps-imex-channels/channel*"):
        for node in _expanded(dev_root, path):
            found[node] = ((), False)
    return tuple((path, *rest) for path, rest in found.items())


def watched(dev_root: str) -> tuple[str, ...]:
    """Return the host paths whose change may make other candidates."""
    return tuple(f"{dev_root}{path}" for path in DIRECTORIES)


def present(dev_root: str) -> tuple[str, ...]:
    """Return the host paths whose coming or going may make other candidates."""
    return tuple(f"{dev_root}{path}" for path in FIRST_NODES)


def _expanded(dev_root: str, path: str) -> Iterable[str]:
    """Return the paths that a `*` at the end stands for: what is there with a number in its place, in that order."""
    if not path.endswith("*"):
        return [path]
    directory, _, start = path[:-1].rpartition("/")
    try:
        names = os.listdir(f"{dev_root}{directory}")
    except OSError:
        return []
    numbers = (name.removeprefix(start) for name in names if name.startswith(start))
    return [f"{directory}/{start}{number}" for number in sorted(filter(str.isdecimal, numbers), key=int)]
