"""The JSON form of a plan, which `oci-gpu plan --json` prints; its `containerEdits` are those of CDI."""

from __future__ import annotations

from oci_gpu_hook.apply.operations.table import KINDS
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.json_form import edits_to_json
from oci_gpu_hook.request.json_form import to_json as request_to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.plan.plan import Plan


def to_json(plan: Plan) -> dict[str, object]:
    """Return the form that `schemas/plan.schema.json` describes."""
    gpus = [device for device in plan.devices if device.kind in vendors.KINDS]
    others = [device for device in plan.devices if device.kind not in vendors.KINDS]
    document: dict[str, object] = {
        "request": request_to_json(plan.request),
        "gpus": [vendors.of(device.kind).to_json(device) for device in gpus],
        "containerEdits": edits_to_json(plan.edits),
    }
    if others:
        document["devices"] = [vendors.of(device.kind).to_json(device) for device in others]
    for kind in KINDS:
        document |= kind.show(plan)
    document["warnings"] = list(plan.warnings)
    if plan.decisions:
        document["decisions"] = list(plan.decisions)
    return document
