"""Checks the members of JSON objects in the lease table's file. Pure."""

from __future__ import annotations

from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.base.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeAlias

    Kinds: TypeAlias = dict[str, type]

_LONGEST: Final = 4096  # PATH_MAX: no name in the file is longer
_NAMES: Final = {dict: "an object", list: "an array", str: "a string", int: "an integer", bool: "true or false"}
HOLDER: Final[Kinds] = {"pid": int, "startTime": int, "bootId": str, "pidNamespace": int}


def holder_to_json(holder: Holder) -> dict[str, object]:
    """Return the JSON members for a holder."""
    return {
        "pid": holder.pid,
        "startTime": holder.start_time,
        "bootId": holder.boot_id,
        "pidNamespace": holder.pid_namespace,
    }


def holder_of(entry: Any) -> Holder:
    """Return the holder in an entry that was checked."""
    return Holder.of(
        {
            "pid": entry["pid"],
            "start_time": entry["startTime"],
            "boot_id": entry["bootId"],
            "pid_namespace": entry["pidNamespace"],
        }
    )


def wrong(entry: Any, kinds: Kinds) -> str:
    """Return what is wrong with a JSON object whose members must be of these kinds, "" if nothing is."""
    if type(entry) is not dict:
        return f"expected a JSON object, found {quoted(entry)}"
    for name, kind in kinds.items():
        value = entry.get(name)
        if type(value) is not kind:
            if value is None:
                return f"{name} is missing in {quoted(entry)}"
            return f"{name}: expected {_NAMES[kind]}, found {quoted(value)}"
        if kind is int and not 0 <= entry[name] < 1 << 63:
            return f"{name}: {quoted(value)} is out of range"
        if kind is str and len(entry[name]) > _LONGEST:
            return f"{name}: {quoted(value)} is too long"
    return ""
