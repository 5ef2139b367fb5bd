"""Makes the stored inventory again, or completes it, when the stored facts have changed."""

from __future__ import annotations

import os
from time import time_ns

from oci_gpu_hook.base import state
from oci_gpu_hook.base.document import dump
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.files import drop_unfinished, replace_file
from oci_gpu_hook.base.locks import acquire
from oci_gpu_hook.devices.nvidia import discovery, facts, stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.base.record import Record
    from oci_gpu_hook.devices.nvidia.model import Inventory, Snapshot

_LOCK_NAME: Final = "inventory.lock"
_PATIENCE: Final = 90.0  # seconds to wait for another process's discovery, which may ask NVML


def make(config: Config, *, detailed: bool, refresh: bool, keep: bool = True) -> Snapshot:
    """Make the inventory, or complete the stored one, and store it. Only one process at a time does that.

    Its nodes are those of the stored one, or none, and must be checked by the caller. keep: False for who only looks,
    and must store nothing. Raises DriverError.
    """
    lock = _lock(config) if keep else None
    try:
        found = None if refresh else stored.whole(config)  # another process may have stored it meanwhile
        if found is None:
            started = time_ns()
            found = discovery.discover(config)
            storable = settled(found.basis.facts, started)
        else:
            storable = True
        if detailed and not found.inventory.detailed:
            found = discovery.with_details(found, config)
            # NVML's answers to a process that a device cgroup keeps from some GPUs are not true for the next one.
            storable = storable and not discovery.hidden_gpus(found.inventory, config)
        if storable and keep:
            _write(config, found)
        return found
    finally:
        if lock is not None:
            os.close(lock)


def settled(gathered: list[Any], started: int) -> bool:
    """Tell whether nothing watched has changed since the discovery started (time_ns), which could have missed it."""
    now = time_ns()
    return not any(known and started - facts.TICK <= known[-1] <= now for known in gathered[-1])


def to_json(inventory: Inventory) -> dict[str, Any]:
    """Return the form that `schemas/inventory.schema.json` describes, without nodes, which are never stored."""
    words: dict[tuple[str, ...], int] = {}

    def rows(records: tuple[Record, ...], names: tuple[str, ...]) -> list[list[Any]]:
        found = []
        for record in records:
            fields = {**record.__dict__}
            for name in ("capabilities", "options"):
                if name in fields:
                    fields[name] = words.setdefault(fields[name], len(words))
            found.append([fields[name] for name in names])
        return found

    document = dict(inventory.__dict__)
    del document["nodes"], document["missing_nodes"]
    document["gpus"] = [
        {**gpu.__dict__, "mig_devices": [mig.__dict__ for mig in gpu.mig_devices]} for gpu in inventory.gpus
    ]
    document["libraries"] = rows(inventory.libraries, stored.LIBRARY)
    document["files"] = rows(inventory.files, stored.FILE)
    document["links"] = rows(inventory.links, stored.LINK)
    document["words"] = list(words)
    return document


def _write(config: Config, found: Snapshot) -> None:
    document = {**found.basis.__dict__, "inventory": to_json(found.inventory)}
    try:
        path = os.path.join(state.directory(config.state_dir), stored.NAME)
        drop_unfinished(path)
        replace_file(path, dump(document))
    except (OSError, HookError):  # a state directory that cannot be written only costs time
        return


def _lock(config: Config) -> int | None:
    """Return the descriptor of the lock, None if it cannot be taken; then the work is done twice."""
    try:
        return acquire(os.path.join(state.directory(config.state_dir), _LOCK_NAME), _PATIENCE)
    except (OSError, HookError):
        return None
