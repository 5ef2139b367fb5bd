"""What of a CDI specification's edits config.json has already, by an engine or by oci-gpu-runtime. Pure."""

from __future__ import annotations

from oci_gpu_hook.devices.edits import UNSAID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Final

    from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, Hook, IntelRdt, Mount

_OCI_TYPES: Final = {"u": "c"}  # an unbuffered character device is a character device


def remaining(edits: ContainerEdits, config: Mapping[str, Any]) -> ContainerEdits:
    """Return the edits without what config.json has. Nodes that its runtime makes count as there."""
    env = frozenset(_list(config, "process", "env"))
    user = _object(config, "process", "user")
    groups = frozenset((user.get("gid"), *_list(config, "process", "user", "additionalGids")))
    rdt = _object(config, "linux", "intelRdt")
    interfaces = _object(config, "linux", "netDevices")
    return edits.replace(
        env=tuple(entry for entry in edits.env if entry not in env),
        device_nodes=tuple(node for node in edits.device_nodes if not has_node(node, config)),
        net_devices=tuple(net for net in edits.net_devices if net.host_interface_name not in interfaces),
        mounts=tuple(mount for mount in edits.mounts if not has_mount(mount, config)),
        hooks=tuple(hook for hook in edits.hooks if not has_hook(hook, config)),
        additional_gids=tuple(gid for gid in edits.additional_gids if gid not in groups),
        intel_rdt=None if edits.intel_rdt is None or rdt_entry(edits.intel_rdt) == rdt else edits.intel_rdt,
    )


def has_node(node: DeviceNode, config: Mapping[str, Any]) -> bool:
    """Tell whether config.json has the node, or binds the host's."""
    wanted = (node.path, oci_type(node), node.major, node.minor)
    for entry in _list(config, "linux", "devices"):
        if type(entry) is dict and entry.get("path") == node.path:
            numbers = (entry.get("major", UNSAID), entry.get("minor", UNSAID))
            kind = str(entry.get("type"))
            found = (node.path, _OCI_TYPES.get(kind, kind), *numbers)
            return found == wanted or (node.type == "p" and entry.get("type") == "p")
    places = ((entry.get("destination"), entry.get("source")) for entry in _mounts(config))
    return (node.path, node.host_path or node.path) in places


def has_mount(mount: Mount, config: Mapping[str, Any]) -> bool:
    """Tell whether config.json mounts the same there."""
    wanted = (_plain(mount.container_path), mount.host_path)
    return any((_plain(entry.get("destination")), entry.get("source")) == wanted for entry in _mounts(config))


def has_hook(hook: Hook, config: Mapping[str, Any]) -> bool:
    """Tell whether config.json has the hook in the same stage."""
    entries = _list(config, "hooks", hook.hook_name)
    wanted = (hook.path, list(hook.args))
    return any((entry.get("path"), entry.get("args") or []) == wanted for entry in entries if type(entry) is dict)


def oci_type(node: DeviceNode) -> str:
    """Return the type of a node as device rules and runtimes have it: c, b or p."""
    return _OCI_TYPES.get(node.type, node.type)


def rdt_entry(rdt: IntelRdt) -> dict[str, object]:
    """Return linux.intelRdt of the OCI runtime specification."""
    members = {
        "closID": rdt.clos_id,
        "l3CacheSchema": rdt.l3_cache_schema,
        "memBwSchema": rdt.mem_bw_schema,
        "schemata": list(rdt.schemata),
        "enableMonitoring": rdt.enable_monitoring,
    }
    return {name: value for name, value in members.items() if value}


def _plain(path: object) -> str:
    return path.rstrip("/") if isinstance(path, str) else ""


def _mounts(config: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return [entry for entry in _list(config, "mounts") if type(entry) is dict]


def _object(config: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    found: Any = config
    for name in names:
        found = found.get(name) if type(found) is dict else None
    return found if type(found) is dict else {}


def _list(config: Mapping[str, Any], *names: str) -> list[Any]:
    found = _object(config, *names[:-1]).get(names[-1])
    return found if type(found) is list else []
