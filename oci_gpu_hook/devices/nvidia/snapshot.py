"""The inventory that a container's start works with: the stored one while its facts hold, else one made anew.

STATE/inventory.json is checked at every start and never trusted: for who wrote it (base.state), for the facts
it was made from (stat and /proc, facts.py); and device nodes are not stored but looked at each time.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import state
from oci_gpu_hook.base.document import parse
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia import facts, stored
from oci_gpu_hook.devices.nvidia.model import DeviceNode, Inventory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.request.model import Request

NAME: Final = "inventory.json"
LARGEST: Final = 4 * 1024 * 1024  # bytes; 100 files and 8 GPUs make 30 KB
_TYPE: Final = 0o170000
_CHARACTER_DEVICE: Final = 0o020000


class Held(Record):
    """An inventory, with what to look for and to check.

    candidates: the nodes to look for, as inventory.nodes has them; watched, present: host paths, as facts.gather takes
    them.
    """

    inventory: Inventory
    candidates: Mapping[str, Sequence[Any]]
    watched: Sequence[str]
    present: Sequence[str]
    facts: list[Any]


def load(config: Config, *, detailed: bool = False, refresh: bool = False) -> Inventory:
    """Return the inventory. Raises DriverError when the host has no driver, or none whose parts fit together.

    detailed: with what only NVML can tell, unless NVML fails (then a warning in it says why). refresh: made anew.
    """
    return hold(config, detailed=detailed, refresh=refresh).inventory


def hold(config: Config, *, detailed: bool = False, refresh: bool = False, request: Request | None = None) -> Held:
    """Do what `load` does, and return what `holds` needs to know later whether it is still so.

    request: whose plan it is for; what cannot be in that may be left out, files of other capabilities and nodes.
    """
    held = None if refresh else read(config, request)
    if held is None or (detailed and not held.inventory.detailed):
        from oci_gpu_hook.devices.nvidia import refresh as making

        held = making.make(config, detailed=detailed, refresh=refresh)
        has_mig = any(gpu.mig_devices for gpu in held.inventory.gpus)
        nodes, missing = _look(held.candidates, config, request, has_mig=has_mig)
        inventory = {**held.inventory.__dict__, "nodes": tuple(nodes), "missing_nodes": tuple(missing)}
        held = Held(**{**held.__dict__, "inventory": Inventory(**inventory)})
    return held


def holds(held: Held, config: Config) -> bool:
    """Tell whether the facts that the inventory was made from are the same now."""
    minors = [gpu.minor for gpu in held.inventory.gpus]
    return held.facts == facts.gather(config, minors, held.watched, held.present)


def read(config: Config, request: Request | None = None) -> Held | None:
    """Return what is stored if its facts hold. request: as in `hold`."""
    data = state.read(f"{config.state_dir}/{NAME}", LARGEST)
    if data is None:
        return None
    try:
        document: dict[str, Any] = parse(data, NAME)
        inventory = document["inventory"]
        gpus = inventory["gpus"]
        watched, present = document["watched"], document["present"]
        if document["facts"] != facts.gather(config, [gpu["minor"] for gpu in gpus], watched, present):
            return None
        has_mig = any(gpu["mig_devices"] for gpu in gpus)
        nodes, missing = _look(document["candidates"], config, request, has_mig=has_mig)
        return Held(
            inventory=stored.from_json(inventory, _wanted(request), nodes, missing),
            candidates=document["candidates"],
            watched=watched,
            present=present,
            facts=document["facts"],
        )
    except (HookError, LookupError, TypeError, ValueError, AttributeError):
        return None


def _wanted(request: Request | None) -> frozenset[str] | None:
    return None if request is None else frozenset((*request.driver_capabilities, *request.features))


def _look(
    candidates: Mapping[str, Sequence[Any]], config: Config, request: Request | None, *, has_mig: bool
) -> tuple[list[DeviceNode], list[tuple[str, tuple[str, ...]]]]:
    """Return the nodes that are there, of those that could be in the request's plan, and those that are missing."""
    wanted = _wanted(request)
    dev_root = config.dev_root.rstrip("/")
    nodes: list[DeviceNode] = []
    missing = []
    for path, listed, expected in candidates["of_capabilities"]:
        capabilities = tuple(listed)
        if wanted is not None and capabilities and wanted.isdisjoint(capabilities):
            continue
        if not _add_node(path, dev_root, capabilities, nodes) and expected:
            missing.append((path, capabilities))
    paths = [*candidates["of_gpus"]]
    if wanted is None or "graphics" in wanted or "display" in wanted:
        paths += candidates["of_displays"]
    if request is None or has_mig or request.mig_config_devices or request.mig_monitor_devices:
        paths += candidates["of_mig"]
    if request is None or request.imex_channels:
        paths += candidates["of_imex"]
    for path in paths:
        _add_node(path, dev_root, (), nodes)
    return nodes, missing


def _add_node(path: str, dev_root: str, capabilities: tuple[str, ...], nodes: list[DeviceNode]) -> bool:
    host_path = dev_root + path
    try:
        status = os.stat(host_path)
    except OSError:
        return False
    mode = status.st_mode
    if mode & _TYPE != _CHARACTER_DEVICE:  # Docker makes a directory of a device that a bind did not find
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
