"""A plan on paper: what `oci-gpu plan --json` prints; `containerEdits` in it are those of CDI."""

from __future__ import annotations

from oci_gpu_hook.request.json_form import to_json as request_to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.allocation.model import Granted
    from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, Mount
    from oci_gpu_hook.plan.plan import Plan


def to_json(plan: Plan) -> dict[str, object]:
    """Return the form that `schemas/plan.schema.json` describes."""
    document: dict[str, object] = {
        "request": request_to_json(plan.request),
        "gpus": [_gpu(granted) for granted in plan.gpus],
        "containerEdits": _edits(plan.edits),
        "links": [{"path": link.path, "target": link.target} for link in plan.links],
        "ldCache": [library.path for library in plan.ld_cache],
        "warnings": list(plan.warnings),
    }
    if plan.files:
        document["files"] = [{"path": f.path, "contents": f.contents.decode("utf-8", "replace")} for f in plan.files]
    if plan.decisions:
        document["decisions"] = list(plan.decisions)
    return document


def _gpu(granted: Granted) -> dict[str, object]:
    gpu, mig = granted.gpu, granted.mig
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "minor": gpu.minor,
        "busId": gpu.bus_id,
        "mig": mig and {"index": mig.index, "uuid": mig.uuid, "profile": mig.profile},
    }


def _edits(edits: ContainerEdits) -> dict[str, object]:
    """Return the JSON form, with empty members left out, as CDI writes it."""
    document: dict[str, object] = {}
    if edits.env:
        document["env"] = list(edits.env)
    if edits.device_nodes:
        document["deviceNodes"] = [_node(node) for node in edits.device_nodes]
    if edits.mounts:
        document["mounts"] = [_mount(mount) for mount in edits.mounts]
    if edits.additional_gids:
        document["additionalGids"] = list(edits.additional_gids)
    return document


def _node(node: DeviceNode) -> dict[str, object]:
    document: dict[str, object] = {"path": node.path}
    if node.host_path != node.path:
        document["hostPath"] = node.host_path
    document |= {
        "type": node.type,
        "major": node.major,
        "minor": node.minor,
        "fileMode": node.file_mode,
        "permissions": node.permissions or "none",
        "uid": node.uid,
        "gid": node.gid,
    }
    return document


def _mount(mount: Mount) -> dict[str, object]:
    document: dict[str, object] = {
        "hostPath": mount.host_path,
        "containerPath": mount.container_path,
        "options": list(mount.options),
    }
    if mount.type:
        document["type"] = mount.type
    return document
