"""Writes a specification as YAML or JSON."""

from __future__ import annotations

from oci_gpu_hook.devices.json_form import edits_to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.devices.cdi.spec_files.model import SpecDevice, Specification

FORMATS: Final = ("yaml", "json")
_PLAIN: Final = frozenset("/ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.+")
_WORDS: Final = ("true", "false", "yes", "no", "on", "off", "y", "n", "null")  # which are no texts


def write(specification: Specification, form: str) -> str:
    """Return the text of a specification in one of `FORMATS`."""
    document = to_json(specification)
    if form == "json":
        import json

        return json.dumps(document, indent=2) + "\n"
    lines = ["---"]
    _add(lines, document, "", "")
    return "\n".join(lines) + "\n"


def to_json(specification: Specification) -> dict[str, Any]:
    """Return the JSON form of CDI 1.1.0, without members that have no value."""
    document: dict[str, Any] = {"cdiVersion": specification.cdi_version, "kind": specification.kind}
    if specification.annotations:
        document["annotations"] = dict(specification.annotations)
    document["devices"] = [_device(device) for device in specification.devices]
    if edits := edits_to_json(specification.edits):
        document["containerEdits"] = edits
    return document


def _add(lines: list[str], value: dict[str, Any] | list[Any], indent: str, first: str) -> None:
    """Add the lines of a mapping or list that has items. PyYAML takes longer to import than all else here takes.

    first: what the first line begins with, in place of the indentation.
    """
    is_list = isinstance(value, list)
    for name, each in enumerate(value) if isinstance(value, list) else value.items():
        head = first + ("-" if is_list else f"{_key(str(name))}:")
        first = indent
        if not isinstance(each, dict | list) or not each:
            lines.append(f"{head} {_scalar(each)}")
        elif is_list:
            _add(lines, each, indent + "  ", f"{head} ")
        else:
            lines.append(head)
            below = indent + "  " if isinstance(each, dict) else indent
            _add(lines, each, below, below)


def _key(name: str) -> str:
    return name if name.isascii() and name.isalpha() and name.lower() not in _WORDS else _scalar(name)


def _scalar(value: object) -> str:
    """Return a number, a truth value, something empty, or a text, which is quoted unless it can be nothing else."""
    if not isinstance(value, str):
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    if value[:1] == "/" and _PLAIN.issuperset(value):
        return value
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 1 << 8 else f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def _device(device: SpecDevice) -> dict[str, Any]:
    annotations = {"annotations": dict(device.annotations)} if device.annotations else {}
    return {"name": device.name, **annotations, "containerEdits": edits_to_json(device.edits)}
