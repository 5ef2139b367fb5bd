"""Reads the stored inventory, STATE/inventory.json, which is checked at every start.

It is used only if nobody else could have written it (base.state), and if the facts that it was made from are unchanged
(stat and /proc, facts.py). Device nodes are not stored, but checked each time. Records are stored as rows, because
names of fields would cost every start time; `capabilities` and `options` of a row are indices into `words`, so that
rows which a request does not need are skipped quickly. Since this project wrote the file, fields go into records
unchecked. `refresh` writes it.
"""

from __future__ import annotations

from oci_gpu_hook.base import limits, state
from oci_gpu_hook.base.document import parse
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.devices.nvidia import facts, host_nodes
from oci_gpu_hook.devices.nvidia.model import (
    Basis,
    DriverFile,
    Gpu,
    Inventory,
    Library,
    Link,
    MigDevice,
    RequestInventory,
    RequestSnapshot,
    Snapshot,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.model import DeviceNode
    from oci_gpu_hook.devices.vendor import Request

NAME: Final = "inventory.json"
# The fields of a row.
LIBRARY: Final = ("capabilities", "host_path", "name", "soname", "links", "directory", "bits", "cached")
FILE: Final = ("capabilities", "options", "host_path", "container_path", "directory")
LINK: Final = ("capabilities", "path", "target", "bits", "to_library")
_BROKEN: Final = (HookError, LookupError, TypeError, ValueError, AttributeError)

# The file's bytes and what they parse to, for a process that starts several containers (entrypoints/resident): the same
# bytes are not parsed again. Nobody changes the parsed document.
_parsed: tuple[bytes | None, Any] = (None, None)


def whole(config: Config) -> Snapshot | None:
    """Return the whole stored inventory if its facts are unchanged."""
    document = _document(config)
    try:
        if document is None or not _holds(document, config):
            return None
        nodes, missing = host_nodes.look(document["candidates"], config.dev_root)
        return Snapshot(inventory=from_json(document["inventory"], nodes, missing), basis=_basis(document))
    except _BROKEN:
        return None


def for_request(request: Request, config: Config) -> RequestSnapshot | None:
    """Return the part of the stored inventory for a request, if its facts are unchanged."""
    document = _document(config)
    try:
        if document is None or not _holds(document, config):
            return None
        inventory = document["inventory"]
        wanted = wanted_by(request)
        has_mig = any(gpu["mig_devices"] for gpu in inventory["gpus"])
        grants = {
            "of_displays": "graphics" in wanted or "display" in wanted,
            "of_mig": has_mig or bool(request.mig_config_devices or request.mig_monitor_devices),
            "of_imex": bool(request.imex_channels),
        }
        nodes, missing = host_nodes.look(document["candidates"], config.dev_root, wanted, grants)
        found = RequestInventory(wanted=wanted, **_fields(inventory, wanted), nodes=nodes, missing_nodes=missing)
        return RequestSnapshot(inventory=found, basis=_basis(document))
    except _BROKEN:
        return None


def wanted_by(request: Request) -> frozenset[str]:
    """Return the driver capabilities and features that select files and nodes."""
    return frozenset((*request.driver_capabilities, *request.features))


def from_json(
    document: Mapping[str, Any],
    nodes: tuple[DeviceNode, ...] = (),
    missing_nodes: tuple[tuple[str, tuple[str, ...]], ...] = (),
) -> Inventory:
    """Return the whole inventory, with these nodes.

    Raises LookupError, TypeError, ValueError or AttributeError if the document has another form.
    """
    fields = _fields(document, None)
    return Inventory(**fields, unclaimed=tuple(document["unclaimed"]), nodes=nodes, missing_nodes=missing_nodes)


def _document(config: Config) -> dict[str, Any] | None:
    global _parsed
    try:
        directory = state.existing(config.state_dir)
        data = state.read(f"{directory}/{NAME}", limits.INVENTORY) if directory else None
        if data is not None and data != _parsed[0]:
            _parsed = data, parse(data, NAME)
    except HookError:
        return None
    document: dict[str, Any] | None = None if data is None else _parsed[1]
    return document


def _holds(document: Mapping[str, Any], config: Config) -> bool:
    minors = [gpu["minor"] for gpu in document["inventory"]["gpus"]]
    found: bool = document["facts"] == facts.gather(
        config, minors, document["watched"], document["present"], document["texts"]
    )
    return found


def _basis(document: Mapping[str, Any]) -> Basis:
    return Basis(
        candidates=document["candidates"],
        watched=document["watched"],
        present=document["present"],
        texts=document["texts"],
        facts=document["facts"],
    )


def _fields(document: Mapping[str, Any], wanted: frozenset[str] | None) -> dict[str, Any]:
    """Return the fields of an inventory without nodes; only files that `wanted` brings, None: all."""
    words = [tuple(listed) for listed in document["words"]]
    brought = [wanted is None or not listed or not wanted.isdisjoint(listed) for listed in words]
    libraries = _rows(LIBRARY, document["libraries"], words, brought)
    for library in libraries:
        library["links"] = tuple(map(tuple, library["links"]))
    files = _rows(FILE, document["files"], words, brought)
    for file in files:
        file["options"] = words[file["options"]]
    links = _rows(LINK, document["links"], words, brought)
    return {
        "driver_version": document["driver_version"],
        "cuda_version": document["cuda_version"],
        "gpus": tuple(map(_gpu, document["gpus"])),
        "libraries": tuple(map(Library.of, libraries)),
        "files": tuple(map(DriverFile.of, files)),
        "links": tuple(map(Link.of, links)),
        "imex_major": document["imex_major"],
        "proc_files": tuple(map(tuple, document["proc_files"])),
        "detailed": document["detailed"],
        "platform": document["platform"],
        "lacking": tuple([(tuple(capabilities), text) for capabilities, text in document["lacking"]]),
        "warnings": tuple(document["warnings"]),
    }


def _rows(
    names: Sequence[str], rows: Iterable[Sequence[Any]], words: Sequence[tuple[str, ...]], brought: Sequence[bool]
) -> list[dict[str, Any]]:
    """Return the fields, by name, of those records that `brought` selects."""
    found = []
    for row in rows:
        at = row[0]
        if brought[at]:
            fields = dict(zip(names, row, strict=True))
            fields["capabilities"] = words[at]
            found.append(fields)
    return found


def _gpu(stored: Mapping[str, Any]) -> Gpu:
    fields = dict(stored)
    fields["drm"] = tuple(fields["drm"])
    fields["nodes"] = tuple(fields["nodes"])
    fields["links"] = tuple(map(tuple, fields["links"]))
    fields["mig_devices"] = tuple([MigDevice(**mig) for mig in fields["mig_devices"]])
    return Gpu.of(fields)
