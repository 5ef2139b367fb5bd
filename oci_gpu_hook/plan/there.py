"""What of a CDI specification's edits config.json has already, by an engine or by oci-gpu-runtime. Pure."""

from __future__ import annotations

from oci_gpu_hook.devices.edits import UNSAID, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any, Final

    from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, Hook, IntelRdt

_OCI_TYPES: Final = {"u": "c"}  # an unbuffered character device is a character device


def remaining(edits: ContainerEdits, config: Mapping[str, Any]) -> ContainerEdits:
    """Return the edits without what config.json has. Nodes that its runtime makes, or binds from the host, count."""
    env = frozenset(filter(_is_text, _list(config, "process", "env")))
    user = _object(config, "process", "user")
    groups = frozenset(gid for gid in (user.get("gid"), *_list(user, "additionalGids")) if type(gid) is int)
    rdt = _object(config, "linux", "intelRdt")
    interfaces = _object(config, "linux", "netDevices")
    # Looked up, because both the edits and config.json may be long.
    nodes, bound, hooks = _nodes(config), _bound(config), _hooks(config, edits.hooks)
    return edits.replace(
        env=tuple(entry for entry in edits.env if entry not in env),
        device_nodes=tuple(node for node in edits.device_nodes if not _has_node(node, nodes, bound)),
        net_devices=tuple(net for net in edits.net_devices if net.host_interface_name not in interfaces),
        mounts=tuple(mount for mount in edits.mounts if (plain(mount.container_path), mount.host_path) not in bound),
        hooks=tuple(hook for hook in edits.hooks if (hook.hook_name, hook.path, hook.args) not in hooks),
        additional_gids=tuple(gid for gid in edits.additional_gids if gid not in groups),
        intel_rdt=None if edits.intel_rdt is None or rdt_entry(edits.intel_rdt) == rdt else edits.intel_rdt,
    )


def _has_node(node: DeviceNode, nodes: Mapping[str, Mapping[str, Any]], bound: Collection[tuple[str, str]]) -> bool:
    entry = nodes.get(plain(node.path))
    if entry is None:
        return (plain(node.path), node.host_path or node.path) in bound
    kind = str(entry.get("type"))
    found = (_OCI_TYPES.get(kind, kind), entry.get("major", UNSAID), entry.get("minor", UNSAID))
    return found == (oci_type(node), node.major, node.minor) or node.type == kind == "p"


def _nodes(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the entries of devices by their paths, the first of each."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in _list(config, "linux", "devices"):
        if type(entry) is dict and type(path := entry.get("path")) is str:
            found.setdefault(plain(path), entry)
    return found


def _bound(config: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Return where something is mounted, and what."""
    return frozenset(
        (plain(place), source)
        for entry in _list(config, "mounts")
        if type(entry) is dict
        and type(place := entry.get("destination")) is str
        and type(source := entry.get("source")) is str
    )


def _hooks(config: Mapping[str, Any], wanted: Iterable[Hook]) -> frozenset[tuple[str, str, tuple[str, ...]]]:
    """Return stage, path and arguments of the hooks in the stages that are wanted."""
    return frozenset(
        (stage, entry["path"], tuple(args))
        for stage in {hook.hook_name for hook in wanted}
        for entry in _list(config, "hooks", stage)
        if type(entry) is dict
        and type(entry.get("path")) is str
        and type(args := entry.get("args") or []) is list
        and all(map(_is_text, args))
    )


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


def _is_text(entry: object) -> bool:
    return type(entry) is str


def _object(config: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    found: Any = config
    for name in names:
        found = found.get(name) if type(found) is dict else None
    return found if type(found) is dict else {}


def _list(config: Mapping[str, Any], *names: str) -> list[Any]:
    found = _object(config, *names[:-1]).get(names[-1])
    return found if type(found) is list else []
