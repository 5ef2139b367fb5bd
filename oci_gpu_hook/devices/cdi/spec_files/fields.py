"""Turns the tree of a specification into typed values, or into a list of everything that is wrong with it.

The fields follow CDI's schema (schema/defs.json) and its own library: numbers and truth values in place of text are
taken as they are written. Letters of a field's name may be of either case, as Go's JSON has it: SPEC.md itself writes
additionalGIDs for additionalGids. An unknown field is an error, because a misspelt one would otherwise be lost.
"""

from __future__ import annotations

import re

from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.devices import edits
from oci_gpu_hook.devices.cdi.spec_files.model import Problem, SpecDevice, Specification
from oci_gpu_hook.devices.cdi.spec_files.text import Mapping, Scalar, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping as Map
    from typing import Any, Final, TypeAlias, TypeVar

    from oci_gpu_hook.devices.cdi.spec_files.text import Node

    T = TypeVar("T")
    Fields: TypeAlias = Map[str, "Read"]  # by name
    Read: TypeAlias = Callable[[Node, str, list[Problem]], Any]  # reads a node at a place, adds problems

UINT32: Final = (0, 2**32 - 1)
INT64: Final = (-(2**63), 2**63 - 1)
_INTEGER: Final = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_MOST_DIGITS: Final = 64  # of 64 bits, in base 2
_TRUE: Final = ("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y")
_AS_WRITTEN: Final = {
    "text": "write one value, in quotation marks",
    "a whole number": "write its digits, without quotation marks",
    "true or false": "write one of the two, without quotation marks",
    "a list": "write [ITEM, ITEM]",
    "a mapping": "write {NAME: VALUE}",
}
_FALSE: Final = ("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N")


def specification(root: Node) -> tuple[Specification | None, tuple[Problem, ...]]:
    """Return the specification and what is wrong; None if a required field is missing or has a wrong type."""
    problems: list[Problem] = []
    found: Specification | None = _SPECIFICATION(root, "", problems)
    return found, tuple(problems)


def _specification(found: dict[str, Any]) -> Specification:
    return Specification(
        cdi_version=found["cdiVersion"],
        kind=found["kind"],
        annotations=found.get("annotations", {}),
        devices=found["devices"],
        edits=found.get("containerEdits") or edits.ContainerEdits(),
    )


def _text(node: Node, place: str, problems: list[Problem]) -> str:
    if isinstance(node, Scalar):
        return "" if node.is_null else node.text
    problems.append(_wrong(node, place, "text"))
    return ""


def _integer(low: int, high: int) -> Read:
    remedy = f"write a number between {low} and {high}"

    def read(node: Node, place: str, problems: list[Problem]) -> int:
        matched = _INTEGER.fullmatch(node.text) if isinstance(node, Scalar) and node.plain else None
        if not matched:
            problems.append(_wrong(node, place, "a whole number"))
            return 0
        sign, *digits = matched.groups()
        if len(matched[0]) > _MOST_DIGITS + len("-0b"):
            what = f"a number of {len(matched[0])} digits is too large"
            problems.append(Problem(line=node.line, place=place, what=what, remedy=remedy))
            return 0
        number = next(int(text, base) for text, base in zip(digits, (16, 2, 8, 10), strict=True) if text)
        number = -number if sign == "-" else number
        if not low <= number <= high:
            problems.append(Problem(line=node.line, place=place, what=f"{number} is out of range", remedy=remedy))
        return number

    return read


def _truth(node: Node, place: str, problems: list[Problem]) -> bool:
    if isinstance(node, Scalar) and node.plain and node.text in (*_TRUE, *_FALSE):
        return node.text in _TRUE
    problems.append(_wrong(node, place, "true or false"))
    return False


def _list(of: Read) -> Read:
    def read(node: Node, place: str, problems: list[Problem]) -> tuple[Any, ...]:
        if not isinstance(node, Sequence):
            problems.append(_wrong(node, place, "a list"))
            return ()
        return tuple(of(each, f"{place}[{number}]", problems) for number, each in enumerate(node.items))

    return read


def _annotations(node: Node, place: str, problems: list[Problem]) -> dict[str, str]:
    if not isinstance(node, Mapping):
        problems.append(_wrong(node, place, "a mapping"))
        return {}
    found = {}
    for key, value in node.pairs:
        found[key.text] = _text(value, f"{place}.{key.text}", problems)
    return found


def _object(fields: Fields, required: Map[str, str], make: Callable[[dict[str, Any]], Any]) -> Read:
    """Return a reader of a mapping with these fields; null counts as an empty mapping.

    required: the fields that must be there, each with a value to be shown. make: gets the fields by CDI's names if
    nothing is wrong; otherwise the value is None.
    """
    in_lower_case = {name.lower(): name for name in fields}

    def read(node: Node, place: str, problems: list[Problem]) -> Any:
        before = len(problems)
        found: dict[str, Any] = {}
        if not isinstance(node, Mapping):
            problems.append(_wrong(node, place, "a mapping"))
            return None
        for key, value in node.pairs:
            name = in_lower_case.get(key.text.lower())
            if name is None:
                what = f"unknown field {quoted(key.text)}"
                problems.append(Problem(line=key.line, place=place, what=what, remedy=_known(key.text, fields)))
            elif name in found:
                what = f"{quoted(key.text)} is {name} a second time"
                problems.append(Problem(line=key.line, place=place, what=what, remedy="remove one of them"))
            elif not (isinstance(value, Scalar) and value.is_null):
                found[name] = fields[name](value, f"{place}.{name}" if place else name, problems)
        problems += [
            Problem(line=node.line, place=place, what=f"{name} is missing", remedy=f"add {name}: {example}")
            for name, example in required.items()
            if name not in found
        ]
        return make(found) if len(problems) == before else None

    return read


def _known(name: str, fields: Fields) -> str:
    import difflib

    near = difflib.get_close_matches(name.lower(), [field.lower() for field in fields], 1)
    meant = next((field for field in fields if [field.lower()] == near), "")
    return f"write {meant} if that is meant, or remove it" if meant else f"remove it; known are {', '.join(fields)}"


def _wrong(node: Node, place: str, wanted: str) -> Problem:
    return Problem(
        line=node.line, place=place, what=f"{wanted} is expected, found {node.kind}", remedy=_AS_WRITTEN[wanted]
    )


def _renamed(make: Callable[..., T], names: Map[str, str]) -> Callable[[dict[str, Any]], T]:
    return lambda found: make(**{names.get(name, name): value for name, value in found.items()})


def _device_node(found: dict[str, Any]) -> edits.DeviceNode:
    """Return a node, whose numbers are said with its major number: tools leave out a minor number of 0.

    A major number of 0 is none (pkg/cdi/container-edits_unix.go, fillMissingInfo).
    """
    found = {**found, "path": edits.plain(found["path"])}
    numbers = {"major": found["major"], "minor": found.get("minor", 0)} if found.get("major") else {}
    rest = {name: value for name, value in found.items() if name not in {"major", "minor"}}
    make = _renamed(edits.DeviceNode, {"hostPath": "host_path", "fileMode": "file_mode"})
    return make({**rest, **numbers})


_UINT32: Final = _integer(*UINT32)
_INT64: Final = _integer(*INT64)
_TEXTS: Final = _list(_text)
_DEVICE_NODE: Final = _object(
    {"path": _text, "hostPath": _text, "type": _text, "major": _INT64, "minor": _INT64, "fileMode": _UINT32,
     "permissions": _text, "uid": _UINT32, "gid": _UINT32},
    {"path": "/dev/NODE"},
    _device_node,
)  # fmt: skip
_NET_DEVICE: Final = _object(
    {"hostInterfaceName": _text, "name": _text},
    {"hostInterfaceName": "eth1", "name": "eth0"},
    _renamed(edits.NetDevice, {"hostInterfaceName": "host_interface_name"}),
)
_HOOK: Final = _object(
    {"hookName": _text, "path": _text, "args": _TEXTS, "env": _TEXTS, "timeout": _integer(1, 2**31 - 1)},
    {"hookName": "createContainer", "path": "/usr/bin/HOOK"},
    _renamed(edits.Hook, {"hookName": "hook_name"}),
)
_MOUNT: Final = _object(
    {"hostPath": _text, "containerPath": _text, "options": _TEXTS, "type": _text},
    {"hostPath": "/PATH", "containerPath": "/PATH"},
    lambda found: edits.Mount(
        host_path=found["hostPath"],
        container_path=edits.plain(found["containerPath"]),
        options=found.get("options", ()),
        type=found.get("type", ""),
    ),
)
_INTEL_RDT: Final = _object(
    {"closID": _text, "l3CacheSchema": _text, "memBwSchema": _text, "schemata": _TEXTS, "enableMonitoring": _truth},
    {},
    _renamed(
        edits.IntelRdt,
        {"closID": "clos_id", "l3CacheSchema": "l3_cache_schema", "memBwSchema": "mem_bw_schema",
         "enableMonitoring": "enable_monitoring"},
    ),
)  # fmt: skip
_EDITS: Final = _object(
    {"env": _TEXTS, "deviceNodes": _list(_DEVICE_NODE), "netDevices": _list(_NET_DEVICE), "hooks": _list(_HOOK),
     "mounts": _list(_MOUNT), "intelRdt": _INTEL_RDT, "additionalGids": _list(_UINT32)},
    {},
    _renamed(
        edits.ContainerEdits,
        {"deviceNodes": "device_nodes", "netDevices": "net_devices", "intelRdt": "intel_rdt",
         "additionalGids": "additional_gids"},
    ),
)  # fmt: skip
_DEVICE: Final = _object(
    {"name": _text, "annotations": _annotations, "containerEdits": _EDITS},
    {"name": "NAME", "containerEdits": "{deviceNodes: [{path: /dev/NODE}]}"},
    lambda found: SpecDevice(
        name=found["name"], annotations=found.get("annotations", {}), edits=found["containerEdits"]
    ),
)
_SPECIFICATION: Final = _object(
    {"cdiVersion": _text, "kind": _text, "annotations": _annotations, "devices": _list(_DEVICE),
     "containerEdits": _EDITS},
    {"cdiVersion": '"0.5.0"', "kind": "vendor.com/gpu", "devices": "[{name: NAME, containerEdits: {…}}]"},
    _specification,
)  # fmt: skip
