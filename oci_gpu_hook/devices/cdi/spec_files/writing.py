"""Writes a specification as YAML or JSON."""

from __future__ import annotations

from oci_gpu_hook.devices.json_form import edits_to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.devices.cdi.spec_files.model import SpecDevice, Specification

FORMATS: Final = ("yaml", "json")


def write(specification: Specification, form: str) -> str:
    """Return the text of a specification in one of `FORMATS`."""
    document = to_json(specification)
    if form == "json":
        import json

        return json.dumps(document, indent=2) + "\n"
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(document, Dumper=dumper, explicit_start=True, sort_keys=False, allow_unicode=True, width=120)
    return text


def to_json(specification: Specification) -> dict[str, Any]:
    """Return the JSON form of CDI 1.1.0, without members that have no value."""
    document: dict[str, Any] = {"cdiVersion": specification.cdi_version, "kind": specification.kind}
    if specification.annotations:
        document["annotations"] = dict(specification.annotations)
    document["devices"] = [_device(device) for device in specification.devices]
    if edits := edits_to_json(specification.edits):
        document["containerEdits"] = edits
    return document


def _device(device: SpecDevice) -> dict[str, Any]:
    annotations = {"annotations": dict(device.annotations)} if device.annotations else {}
    return {"name": device.name, **annotations, "containerEdits": edits_to_json(device.edits)}
