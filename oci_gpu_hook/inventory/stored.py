"""The inventory on paper: JSON with the names of the records' fields, for the state directory.

What is read back is this project's own (oci_gpu_hook.state answers for that), so fields go into records as they are.
"""

from __future__ import annotations

from oci_gpu_hook.inventory.model import DriverFile, Gpu, Inventory, Library, Link, MigDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypeVar

    from oci_gpu_hook.record import Record

    R = TypeVar("R", bound=Record)


def to_json(inventory: Inventory) -> dict[str, Any]:
    """Return the form that `schemas/inventory.schema.json` describes; it has no nodes, which are never stored."""
    document = dict(inventory.__dict__)
    del document["nodes"], document["missing_nodes"]
    document["gpus"] = [
        {**gpu.__dict__, "mig_devices": [mig.__dict__ for mig in gpu.mig_devices]} for gpu in inventory.gpus
    ]
    for name in ("libraries", "files", "links"):
        document[name] = [record.__dict__ for record in document[name]]
    return document


def from_json(document: Mapping[str, Any]) -> Inventory:
    """Return the inventory, without nodes. Raises KeyError, TypeError or AttributeError for another form."""
    return Inventory(
        **{
            **document,
            "gpus": tuple(_gpu(gpu) for gpu in document["gpus"]),
            "libraries": _records(Library, document["libraries"]),
            "files": _records(DriverFile, document["files"]),
            "links": _records(Link, document["links"]),
            "proc_files": _tupled(document["proc_files"]),
            "unclaimed": _tupled(document["unclaimed"]),
            "warnings": _tupled(document["warnings"]),
            "nodes": (),
        }
    )


def _gpu(document: Mapping[str, Any]) -> Gpu:
    (gpu,) = _records(Gpu, ({**document, "mig_devices": _records(MigDevice, document["mig_devices"])},))
    return gpu


def _records(kind: type[R], documents: Iterable[Mapping[str, Any]]) -> tuple[R, ...]:
    """Make records of stored fields. A hundred by way of their constructor would cost as much as all the rest."""
    made = []
    for document in documents:
        record = kind.__new__(kind)
        fields = record.__dict__
        for name, value in document.items():
            fields[name] = _tupled(value) if type(value) is list else value
        made.append(record)
    return tuple(made)


def _tupled(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple([_tupled(value) if type(value) is list else value for value in values])
