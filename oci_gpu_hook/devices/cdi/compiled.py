"""What the specification files have of a kind: from STATE/cdi.json while its facts hold, else compiled again.

The file is checked for who wrote it (base.state) and for what it was made of (facts.py). What is read back is this
project's own form of what was checked by all rules.
"""

from __future__ import annotations

import os
import time

from oci_gpu_hook.base import limits, state
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.files import drop_unfinished, replace_file
from oci_gpu_hook.devices.cdi import facts
from oci_gpu_hook.devices.cdi.model import Described, Inventory, Snapshot
from oci_gpu_hook.devices.edits import (
    UNSAID,
    ContainerEdits,
    DeviceNode,
    Hook,
    IntelRdt,
    Mount,
    NetDevice,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config

NAME: Final = "cdi.json"
_BROKEN: Final = (HookError, LookupError, TypeError, ValueError, AttributeError)


def of_kind(kind: str, config: Config) -> Snapshot:
    """Return what the files have of a kind. Raises DriverError where they cannot be read."""
    document = _stored(config)
    if document is not None:
        try:
            return _snapshot(kind, document, config)
        except _BROKEN:
            pass
    return _snapshot(kind, refreshed(config), config)


def kinds(config: Config) -> tuple[str, ...]:
    """Return the kinds that the files have. Raises DriverError."""
    document = _stored(config) or refreshed(config)
    return tuple(document["kinds"])


def has_files(config: Config) -> bool:
    """Tell cheaply whether there may be any specification."""
    for directory in config.cdi_spec_dirs:
        try:
            if os.listdir(directory):
                return True
        except OSError:
            continue
    return False


def is_fresh(snapshot: Snapshot, config: Config) -> bool:
    """Tell whether the files are as they were."""
    document = _stored(config)
    return document is not None and document["facts"] == snapshot.facts


def refreshed(config: Config) -> dict[str, Any]:
    """Read the files now, and store what they have; where it cannot be stored, that only costs time."""
    from oci_gpu_hook.devices.cdi import compiling

    began = time.time_ns()
    document = compiling.compiled(config.cdi_spec_dirs)
    if facts.settled(document["facts"], began, time.time_ns()):
        try:
            path = os.path.join(state.directory(config.state_dir), NAME)
            drop_unfinished(path)
            replace_file(path, dump(document))
        except (OSError, HookError):
            pass
    return document


def _stored(config: Config) -> dict[str, Any] | None:
    try:
        directory = state.existing(config.state_dir)
        data = state.read(f"{directory}/{NAME}", limits.CDI_COMPILED) if directory else None
        document: dict[str, Any] | None = None if data is None else parse(data, NAME)
        if document is None:
            return None
        now = facts.gather(config.cdi_spec_dirs, document["paths"], document["above"])
    except _BROKEN:
        return None
    return document if document["facts"] == now else None


def _snapshot(kind: str, document: Mapping[str, Any], config: Config) -> Snapshot:
    found = document["kinds"].get(kind, {"files": [], "edits": [], "devices": []})
    conflicts = [(name, tuple(paths)) for name, paths in document["conflicts"] if name.startswith(f"{kind}=")]
    inventory = Inventory(
        kind=kind,
        directories=config.cdi_spec_dirs,
        files=tuple((path, edits_of(edits)) for path, edits in zip(found["files"], found["edits"], strict=True)),
        devices=tuple(
            Described(name=name, file=place, edits=edits_of(edits)) for name, place, edits in found["devices"]
        ),
        conflicts=tuple(conflicts),
        broken=tuple(document["broken"]),
        kinds=tuple(document["kinds"]),
    )
    return Snapshot(inventory=inventory, facts=document["facts"])


def edits_of(document: Mapping[str, Any]) -> ContainerEdits:
    """Return edits from CDI's JSON form (devices.json_form), in which nothing is wrong."""
    rdt = document.get("intelRdt")
    return ContainerEdits(
        env=tuple(document.get("env", ())),
        device_nodes=tuple(map(_node, document.get("deviceNodes", ()))),
        net_devices=tuple(
            NetDevice(host_interface_name=net["hostInterfaceName"], name=net["name"])
            for net in document.get("netDevices", ())
        ),
        mounts=tuple(map(_mount, document.get("mounts", ()))),
        hooks=tuple(map(_hook, document.get("hooks", ()))),
        additional_gids=tuple(document.get("additionalGids", ())),
        intel_rdt=None if rdt is None else _intel_rdt(rdt),
    )


def _node(found: Mapping[str, Any]) -> DeviceNode:
    return DeviceNode(
        path=found["path"],
        host_path=found.get("hostPath", ""),
        type=found.get("type", ""),
        major=found.get("major", UNSAID),
        minor=found.get("minor", UNSAID),
        file_mode=found.get("fileMode", UNSAID),
        uid=found.get("uid", UNSAID),
        gid=found.get("gid", UNSAID),
        permissions=found.get("permissions", ""),
    )


def _mount(found: Mapping[str, Any]) -> Mount:
    return Mount(
        host_path=found["hostPath"],
        container_path=found["containerPath"],
        options=tuple(found.get("options", ())),
        type=found.get("type", ""),
    )


def _hook(found: Mapping[str, Any]) -> Hook:
    return Hook(
        hook_name=found["hookName"],
        path=found["path"],
        args=tuple(found.get("args", ())),
        env=tuple(found.get("env", ())),
        timeout=found.get("timeout", UNSAID),
    )


def _intel_rdt(found: Mapping[str, Any]) -> IntelRdt:
    return IntelRdt(
        clos_id=found.get("closID", ""),
        l3_cache_schema=found.get("l3CacheSchema", ""),
        mem_bw_schema=found.get("memBwSchema", ""),
        schemata=tuple(found.get("schemata", ())),
        enable_monitoring=found.get("enableMonitoring", False),
    )
