"""Finds the device nodes that the host may have for containers; which of them exist is checked at every start."""

from __future__ import annotations

import os

from oci_gpu_hook.devices.nvidia.model import DeviceNode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

    from oci_gpu_hook.devices.nvidia.model import Gpu

    Candidate = tuple[str, tuple[str, ...], bool]

_TYPE: Final = 0o170000
_CHARACTER_DEVICE: Final = 0o020000
_GRANTED: Final = ("of_displays", "of_mig", "of_imex")
# Directories with nodes of one kind: a new or removed node changes their times, and so the stored facts.
DIRECTORIES: Final = ("/dev/nvidia-caps", "/dev/nvidia-caps-imex-channels", "/dev/infiniband", "/dev/dri")
# The first node of each feature; /dev itself changes too often to be a fact.
FIRST_NODES: Final = ("/dev/nvidia-fs0", "/dev/nvidia-nvswitchctl", "/dev/gdrdrv")


def candidates(dev_root: str, gpus: Sequence[Gpu]) -> dict[str, Sequence[Candidate] | Sequence[str]]:
    """Return the nodes, grouped by what in a request brings them; paths are those in containers.

    of_capabilities: (path, capabilities that bring it, whether it is expected). of_gpus, of_displays, of_mig, of_imex:
    paths of nodes that come with a grant. Displays are for the capabilities graphics and display.
    """
    from oci_gpu_hook.devices.nvidia.capabilities import NODES

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


def look(
    candidates: Mapping[str, Sequence[Any]],
    dev_root: str,
    wanted: frozenset[str] | None = None,
    grants: Mapping[str, bool] | None = None,
) -> tuple[tuple[DeviceNode, ...], tuple[tuple[str, tuple[str, ...]], ...]]:
    """Return the nodes that exist, and (path, capabilities) of expected ones that do not.

    wanted: the capabilities whose nodes are checked; None: all. grants: for each list of candidates, except that of
    GPUs, which is always checked, whether such a grant is possible; None: all are.
    """
    dev_root = dev_root.rstrip("/")
    nodes: list[DeviceNode] = []
    missing = []
    for path, listed, expected in candidates["of_capabilities"]:
        capabilities = tuple(listed)
        if wanted is not None and capabilities and wanted.isdisjoint(capabilities):
            continue
        if not _add_node(path, dev_root, capabilities, nodes) and expected:
            missing.append((path, capabilities))
    paths = [*candidates["of_gpus"]]
    for name in _GRANTED:
        if grants is None or grants[name]:
            paths += candidates[name]
    for path in paths:
        _add_node(path, dev_root, (), nodes)
    return tuple(nodes), tuple(missing)


def watched(dev_root: str) -> tuple[str, ...]:
    """Return the host paths whose change may change the candidates."""
    return tuple(f"{dev_root}{path}" for path in DIRECTORIES)


def present(dev_root: str) -> tuple[str, ...]:
    """Return the host paths whose existence may change the candidates."""
    return tuple(f"{dev_root}{path}" for path in FIRST_NODES)


def _expanded(dev_root: str, path: str) -> Sequence[str]:
    """Return the existing paths that match a path whose final `*` means a number, in the order of numbers."""
    if not path.endswith("*"):
        return [path]
    directory, _, start = path[:-1].rpartition("/")
    try:
        names = os.listdir(f"{dev_root}{directory}")
    except OSError:
        return []
    numbers = (name.removeprefix(start) for name in names if name.startswith(start))
    return [f"{directory}/{start}{number}" for number in sorted(filter(str.isdecimal, numbers), key=int)]


def _add_node(path: str, dev_root: str, capabilities: tuple[str, ...], nodes: list[DeviceNode]) -> bool:
    host_path = dev_root + path
    try:
        status = os.stat(host_path)
    except OSError:
        return False
    mode = status.st_mode
    if mode & _TYPE != _CHARACTER_DEVICE:  # Docker creates a directory if the device of a bind does not exist
        return False
    number = status.st_rdev
    nodes.append(
        DeviceNode(
            path=path,
            host_path=host_path,
            major=os.major(number),
            minor=os.minor(number),
            mode=mode & 0o7777,
            uid=status.st_uid,
            gid=status.st_gid,
            capabilities=capabilities,
        )
    )
    return True
