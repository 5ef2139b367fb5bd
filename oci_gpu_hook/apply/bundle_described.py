"""What CDI specifications bring, in a bundle's config.json, as CDI's own library writes it, and its undoing. Pure.

Source: cncf-tags/container-device-interface, pkg/cdi/container-edits.go (Apply), and the OCI runtime specification.
What is there already stays as it is.

What was put in is on record with this project's own state (bundle_record.py), not in the bundle: whoever starts
containers chooses their annotations, and could else have a mount or hook of the engine's taken out.
"""

from __future__ import annotations

from oci_gpu_hook.devices.edits import NO_PERMISSIONS, UNSAID
from oci_gpu_hook.plan import there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final, TypeAlias

    from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, Hook, Mount

    # Where a list stands in config.json, and entries of it.
    Entries: TypeAlias = list[tuple[list[str], list[Any]]]

_BOUND: Final = frozenset(("bind", "rbind"))


class Edited:
    """A config.json that is edited, and the record of what that takes to undo.

    added, removed: entries of lists. replaced: members, what they were (None: absent) and are.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.added: Entries = []
        self.removed: Entries = []
        self.replaced: list[tuple[list[str], Any, Any]] = []

    def add(self, place: list[str], entries: Iterable[Any]) -> None:
        """Put entries at the end of a list."""
        entries = list(entries)
        if entries:
            _list(self.config, place).extend(entries)
            self.added.append((place, entries))

    def remove(self, place: list[str], unwanted: Callable[[Any], bool]) -> None:
        """Take entries out of a list, for which others come."""
        found = _list(self.config, place)
        removed = [entry for entry in found if unwanted(entry)]
        if removed:
            found[:] = [entry for entry in found if not unwanted(entry)]
            self.removed.append((place, removed))

    def replace(self, place: list[str], value: object) -> None:
        """Put a value in the place of a member."""
        *above, name = place
        parent = _object(self.config, above)
        self.replaced.append((place, parent.get(name), value))
        parent[name] = value


def put_in(config: dict[str, Any], edits: ContainerEdits, *, user_namespace: bool) -> dict[str, Any]:
    """Put edits into config.json; return the record by which `take_out` undoes it.

    user_namespace: whether the runtime binds nodes from the host by their container path, and knows no groups of the
    host; nodes that are elsewhere on the host are the hook's to bind then.
    """
    nodes = edits.device_nodes
    edits = there.remaining(edits, config)
    edited = Edited(config)
    names = {entry.partition("=")[0] for entry in edits.env}
    edited.remove(["process", "env"], lambda entry: type(entry) is str and entry.partition("=")[0] in names)
    edited.add(["process", "env"], edits.env)
    made = [node for node in edits.device_nodes if not (user_namespace and node.host_path != node.path)]
    paths = {node.path for node in made}
    edited.remove(["linux", "devices"], lambda entry: type(entry) is dict and _key(entry.get("path")) in paths)
    edited.add(["linux", "devices"], map(_node_entry, made))
    rules = {_key(rule): rule for node in nodes if (rule := _rule(node))}
    known = _list(config, ["linux", "resources", "devices"])
    edited.add(["linux", "resources", "devices"], _lacking(rules.values(), known))
    _mounts(edited, edits.mounts)
    for hook in edits.hooks:
        edited.add(["hooks", hook.hook_name], [_hook_entry(hook)])
    if not user_namespace:
        edited.add(["process", "user", "additionalGids"], edits.additional_gids)
    if edits.intel_rdt is not None:
        edited.replace(["linux", "intelRdt"], there.rdt_entry(edits.intel_rdt))
    for net in edits.net_devices:
        edited.replace(["linux", "netDevices", net.host_interface_name], {"name": net.name})
    return {"added": edited.added, "removed": edited.removed, "replaced": edited.replaced}


def take_out(config: dict[str, Any], record: dict[str, Any]) -> None:
    """Take out what `put_in` has put in, as far as it is as it was put in; what had made way for it comes back."""
    for place, entries in record["added"]:
        _drop(_list(config, place), entries)
    for place, entries in record["removed"]:
        found = _list(config, place)
        found += _lacking(entries, found)
    for place, before, after in record["replaced"]:
        *above, name = place
        parent = _object(config, above)
        if parent.get(name) == after:
            parent.pop(name)
            if before is not None:
                parent[name] = before


def _mounts(edited: Edited, mounts: Iterable[Mount]) -> None:
    """Add mounts, in the order of how deep they are, as an engine does: one may lie in another."""
    entries = list(map(_mount_entry, mounts))
    if entries:
        destinations = {_key(entry["destination"]) for entry in entries}
        place = ["mounts"]
        edited.remove(place, lambda entry: type(entry) is dict and _key(entry.get("destination")) in destinations)
        edited.add(place, entries)
        _list(edited.config, place).sort(key=_depth)


def _depth(entry: Any) -> int:
    path = entry.get("destination") if type(entry) is dict else ""
    return len([part for part in path.split("/") if part]) if type(path) is str else 0


def _node_entry(node: DeviceNode) -> dict[str, object]:
    entry: dict[str, object] = {"path": node.path, "type": there.oci_type(node)}
    if node.type != "p":
        entry |= {"major": node.major, "minor": node.minor}
    owner = {"fileMode": node.file_mode, "uid": node.uid, "gid": node.gid}
    return entry | {name: value for name, value in owner.items() if value != UNSAID}


def _rule(node: DeviceNode) -> dict[str, object] | None:
    """Return the rule of the device cgroup, None for a node that needs or gets none."""
    if node.type == "p" or node.permissions == NO_PERMISSIONS:
        return None
    kind = there.oci_type(node)
    return {"allow": True, "type": kind, "major": node.major, "minor": node.minor, "access": node.permissions}


def _mount_entry(mount: Mount) -> dict[str, object]:
    options = list(mount.options)
    if not mount.type and not _BOUND.intersection(options):
        options.append("bind")  # of a file or directory of the host nothing else can be meant
    entry: dict[str, object] = {"destination": mount.container_path, "source": mount.host_path, "options": options}
    return entry | {"type": mount.type or "bind"}


def _hook_entry(hook: Hook) -> dict[str, object]:
    entry: dict[str, object] = {"path": hook.path}
    if hook.args:
        entry["args"] = list(hook.args)
    if hook.env:
        entry["env"] = list(hook.env)
    return entry | ({"timeout": hook.timeout} if hook.timeout > 0 else {})


def _lacking(entries: Iterable[Any], found: Iterable[Any]) -> list[Any]:
    """Return the entries that are not among those found."""
    known = {*map(_key, found)}
    return [entry for entry in entries if _key(entry) not in known]


def _drop(found: list[Any], entries: Iterable[Any]) -> None:
    """Take each of the entries out once, as far as it is there."""
    times: dict[object, int] = {}
    for key in map(_key, entries):
        times[key] = times.get(key, 0) + 1
    kept = []
    for entry in found:
        key = _key(entry)
        if times.get(key, 0):
            times[key] -= 1
        else:
            kept.append(entry)
    found[:] = kept


def _key(value: Any) -> object:
    """Return what tells a value of JSON from others, to be looked up by: lists of many thousands are compared."""
    if type(value) is dict:
        return frozenset((name, _key(below)) for name, below in value.items())
    return (list, *map(_key, value)) if type(value) is list else value


def _object(config: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return an object of config.json, made where it is absent or null."""
    found = config
    for name in names:
        below = found.get(name)
        if type(below) is not dict:
            below = found[name] = {}
        found = below
    return found


def _list(config: dict[str, Any], place: list[str]) -> list[Any]:
    parent = _object(config, place[:-1])
    found = parent.get(place[-1])
    if type(found) is not list:
        found = parent[place[-1]] = []
    return found
