"""The JSON form of CDI's containerEdits, without members that have no value."""

from __future__ import annotations

from oci_gpu_hook.devices.edits import UNSAID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, Hook, IntelRdt, Mount


def edits_to_json(edits: ContainerEdits) -> dict[str, object]:
    """Return the JSON form of CDI 1.1.0."""
    return _said(
        {
            "env": list(edits.env),
            "deviceNodes": [_node(node) for node in edits.device_nodes],
            "netDevices": [
                {"hostInterfaceName": net.host_interface_name, "name": net.name} for net in edits.net_devices
            ],
            "hooks": [_hook(hook) for hook in edits.hooks],
            "mounts": [_mount(mount) for mount in edits.mounts],
            "intelRdt": edits.intel_rdt and _intel_rdt(edits.intel_rdt),
            "additionalGids": list(edits.additional_gids),
        }
    )


def _node(node: DeviceNode) -> dict[str, object]:
    return _said(
        {
            "path": node.path,
            "hostPath": node.host_path if node.host_path != node.path else "",
            "type": node.type,
            "major": node.major,
            "minor": node.minor,
            "fileMode": node.file_mode,
            "permissions": node.permissions,
            "uid": node.uid,
            "gid": node.gid,
        }
    )


def _mount(mount: Mount) -> dict[str, object]:
    document: dict[str, object] = {"hostPath": mount.host_path, "containerPath": mount.container_path}
    return document | _said({"options": list(mount.options), "type": mount.type})


def _hook(hook: Hook) -> dict[str, object]:
    document: dict[str, object] = {"hookName": hook.hook_name, "path": hook.path}
    return document | _said({"args": list(hook.args), "env": list(hook.env), "timeout": hook.timeout})


def _intel_rdt(intel_rdt: IntelRdt) -> dict[str, object]:
    return _said(
        {
            "closID": intel_rdt.clos_id,
            "l3CacheSchema": intel_rdt.l3_cache_schema,
            "memBwSchema": intel_rdt.mem_bw_schema,
            "schemata": list(intel_rdt.schemata),
            "enableMonitoring": intel_rdt.enable_monitoring or None,
        }
    )


def _said(members: dict[str, object]) -> dict[str, object]:
    """Return the members that have a value, which 0 is and an empty list is not."""
    return {name: value for name, value in members.items() if value not in (None, "", [], {}, UNSAID)}
