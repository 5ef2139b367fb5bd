"""The inventory that a container's start works with: the stored one while its facts hold, else one made anew.

STATE/inventory.json is checked at every start and never trusted: for who wrote it (oci_gpu_hook.state), for the facts
it was made from (stat and /proc, inventory/facts.py); and device nodes are not stored but looked at each time.
"""

from __future__ import annotations

import os

from oci_gpu_hook import state
from oci_gpu_hook.document import dump, parse
from oci_gpu_hook.errors import HookError
from oci_gpu_hook.inventory import facts, stored
from oci_gpu_hook.inventory.model import DeviceNode, Inventory
from oci_gpu_hook.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from oci_gpu_hook.config import Config

NAME: Final = "inventory.json"
LARGEST: Final = 4 * 1024 * 1024  # bytes; 100 files and 8 GPUs make 40 KB
_LOCK_NAME: Final = "inventory.lock"
_PATIENCE: Final = 90.0  # seconds to wait for another's discovery, which may ask NVML
_TYPE: Final = 0o170000
_CHARACTER_DEVICE: Final = 0o020000


class Held(Record):
    """An inventory as it is stored: without nodes, with what to look for and to check.

    candidates: [path, capabilities, expected] of each node; watched, present: host paths, as facts.gather takes them.
    """

    inventory: Inventory
    candidates: Sequence[tuple[str, tuple[str, ...], bool]]
    watched: Sequence[str]
    present: Sequence[str]
    facts: list[Any]


def load(config: Config, *, detailed: bool = False, refresh: bool = False) -> Inventory:
    """Return the inventory. Raises DriverError when the host has no driver, or none whose parts fit together.

    detailed: with what only NVML can tell, unless NVML fails (then a warning in it says why). refresh: made anew.
    """
    return hold(config, detailed=detailed, refresh=refresh).inventory


def hold(config: Config, *, detailed: bool = False, refresh: bool = False) -> Held:
    """Do what `load` does, and return what `holds` needs to know later whether it is still so."""
    held = None if refresh else _read(config)
    if held is None or (detailed and not held.inventory.detailed):
        held = _make(config, detailed=detailed, refresh=refresh)
    return Held(**{**held.__dict__, "inventory": _with_nodes(held, config.dev_root.rstrip("/"))})


def holds(held: Held, config: Config) -> bool:
    """Tell whether the facts that the inventory was made from are the same now."""
    minors = [gpu.minor for gpu in held.inventory.gpus]
    return held.facts == facts.gather(config, minors, held.watched, held.present)


def _read(config: Config) -> Held | None:
    """Return what is stored if its facts hold."""
    data = state.read(os.path.join(config.state_dir, NAME), LARGEST)
    if data is None:
        return None
    try:
        document: dict[str, Any] = parse(data, NAME)
        inventory = stored.from_json(document["inventory"])
        candidates = [(f"{path}", tuple(kinds), expected) for path, kinds, expected in document["candidates"]]
        held = Held(**{**document, "inventory": inventory, "candidates": candidates})
        return held if holds(held, config) else None
    except (HookError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _make(config: Config, *, detailed: bool, refresh: bool) -> Held:
    """Make the inventory, or what is missing of the stored one, and store it. One process at a time does so."""
    lock = _lock(config)
    try:
        held = None if refresh else _read(config)  # another process may have made it meanwhile
        if held is None:
            from time import time_ns

            from oci_gpu_hook.inventory.discovery import discover

            started = time_ns()
            held = discover(config)
            storable = facts.settled(held.facts, started)
        else:
            storable = True
        if detailed and not held.inventory.detailed:
            held = _with_details(held)
        if storable:
            _write(config, held)
        return held
    finally:
        if lock is not None:
            os.close(lock)


def _with_details(held: Held) -> Held:
    from oci_gpu_hook.inventory.discovery import with_details

    return Held(**{**held.__dict__, "inventory": with_details(held.inventory)})


def _write(config: Config, held: Held) -> None:
    document = {**held.__dict__, "inventory": stored.to_json(held.inventory)}
    try:
        path = os.path.join(state.directory(config.state_dir), NAME)
        state.drop_unfinished(path)
        state.write(path, dump(document))
    except (OSError, HookError):  # a state directory that cannot be written costs time, no more
        return


def _lock(config: Config) -> int | None:
    """Return the descriptor of the lock, None where there is none to be had: then the work is done twice."""
    from fcntl import LOCK_EX, LOCK_NB, flock
    from time import monotonic, sleep

    try:
        path = os.path.join(state.directory(config.state_dir), _LOCK_NAME)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (OSError, HookError):
        return None
    deadline = monotonic() + _PATIENCE
    pause = 0.001
    while True:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if monotonic() >= deadline:
                os.close(lock)
                return None
            sleep(pause)
            pause = min(2 * pause, 0.02)
        except OSError:
            os.close(lock)
            return None
        else:
            return lock


def _with_nodes(held: Held, dev_root: str) -> Inventory:
    nodes = []
    missing = []
    for path, capabilities, expected in held.candidates:
        node = _node(path, f"{dev_root}{path}", capabilities)
        if node is not None:
            nodes.append(node)
        elif expected:
            missing.append((path, capabilities))
    return Inventory(**{**held.inventory.__dict__, "nodes": tuple(nodes), "missing_nodes": tuple(missing)})


def _node(path: str, host_path: str, capabilities: tuple[str, ...]) -> DeviceNode | None:
    try:
        status = os.stat(host_path)
    except OSError:
        return None
    if status.st_mode & _TYPE != _CHARACTER_DEVICE:  # Docker makes a directory of a device that a bind did not find
        return None
    return DeviceNode(
        path=path,
        host_path=host_path,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=status.st_mode & 0o7777,
        uid=status.st_uid,
        gid=status.st_gid,
        capabilities=capabilities,
    )
