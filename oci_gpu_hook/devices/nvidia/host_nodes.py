"""Which device nodes the host may have for containers. They are looked at anew at every start (inventory/cache.py)."""

from __future__ import annotations

import os

from oci_gpu_hook.devices.nvidia.capabilities import NODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.devices.nvidia.model import Gpu

    Candidate = tuple[str, tuple[str, ...], bool]

# Directories that hold nodes of one kind only: a node more or less changes their times, and so the cache's facts.
DIRECTORIES: Final = ("/dev/nvidia-caps", "/dev/nvidia-caps-imex-channels", "/dev/infiniband", "/dev/dri")
# The first node of a feature; /dev itself changes too often to be a fact.
FIRST_NODES: Final = ("/dev/nvidia-fs0", "/dev/nvidia-nvswitchctl", "/dev/gdrdrv")


def candidates(dev_root: str, gpus: Sequence[Gpu]) -> dict[str, Sequence[Candidate] | Sequence[str]]:
    """Return the nodes, by what in a request brings them; paths are as containers see them.

    of_capabilities: (path, capabilities that bring it, whether it is expected). of_gpus, of_displays, of_mig, of_imex:
    paths of nodes that come with a grant; displays are for graphics and display.
    """
    found: dict[str, Candidate] = {}
    for row in NODES:
        for path in _expanded(dev_root, row.path):
            found.setdefault(path, (path, row.capabilities, row.expected))
    return {
        "of_capabilities": tuple(found.values()),
        "of_gpus": [f"/dev/nvidia{gpu.minor}" for gpu in gpus if gpu.minor >= 0],
        "of_displays": [f"/dev/dri/{name}" for gpu in gpus for name in gpu.drm],
        "of_mig": _expanded(dev_root, "/dev/nvidia-caps/nvidia-cap*"),
        "of_imex": _expanded(dev_root, "/dev/nvidia-caps-imex-channels/channel*"),
    }


def watched(dev_root: str) -> tuple[str, ...]:
    """Return the host paths whose change may make other candidates."""
    return tuple(f"{dev_root}{path}" for path in DIRECTORIES)


def present(dev_root: str) -> tuple[str, ...]:
    """Return the host paths whose coming or going may make other candidates."""
    return tuple(f"{dev_root}{path}" for path in FIRST_NODES)


def _expanded(dev_root: str, path: str) -> Sequence[str]:
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
