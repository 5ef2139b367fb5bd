"""Changes a bundle's config.json for oci-gpu-runtime, and undoes that. Pure: works on the parsed document.

Device nodes and their cgroup rules that are in config.json are set by the OCI runtime and, through it, by systemd, so
no `systemctl daemon-reload` takes them away. The hook does all else.

A bundle may be started again and be granted other GPUs. So a note in its annotations says what was added, and that is
removed first. The note is not trusted: what it names can only be removed.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.document import dump, member, parse
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.request.model import PREPARED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import Any, Final

    from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode

_WHAT: Final = "config.json"
_VISIBLE: Final = "NVIDIA_VISIBLE_DEVICES="
# The name by which dockerd calls NVIDIA's hook; on a host without that hook it may be a link to this project's.
NVIDIA_HOOKS: Final = ("nvidia-container-runtime-hook", "nvidia-container-toolkit")
_OF_START: Final = ("prestart", "createRuntime")
STANDBY: Final = "--standby"  # the hook's option; entrypoints.runtime_standby
HOOK_ENVIRONMENT: Final = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin",)


class Grant(Record):
    """What a bundle gets. uuids: of the granted devices, for NVIDIA_VISIBLE_DEVICES; () does not change the variable.

    edits: device nodes and groups. hook: path of the executable to register. user_namespace: whether the container has
    one; then the runtime binds nodes from the host by their container path, and has none of the host's groups.
    standby: where a process waits to attach the rest for the hook, "" if none does. described: all that CDI
    specifications bring.
    """

    uuids: tuple[str, ...]
    edits: ContainerEdits
    hook: str
    user_namespace: bool
    standby: str = ""
    described: ContainerEdits | None = None


def prepare(config: dict[str, Any], grant: Grant) -> dict[str, Any] | None:
    """Add a grant to a config.json that `restore` has processed. Raises InvalidInput.

    Return the record by which bundle_described takes out what CDI specifications bring, None where they bring nothing.
    """
    record = None
    if grant.described is not None:
        from oci_gpu_hook.apply import bundle_described

        record = bundle_described.put_in(config, grant.described, user_namespace=grant.user_namespace)
    note: dict[str, Any] = {
        "devices": _add_nodes(config, grant),
        "rules": _add_rules(config, grant.edits.device_nodes),
        "groups": [] if grant.user_namespace else _add_groups(config, grant.edits.additional_gids),
        "visibleDevices": _set_visible(config, grant.uuids),
    }
    _register(config, "prestart", grant.hook, (STANDBY, grant.standby) if grant.standby else ())
    _register(config, "poststop", grant.hook)
    if record is not None:
        note["described"] = True
    _object(config, "annotations")[PREPARED] = dump(note).decode("ascii")
    return record


def has_hook(config: dict[str, Any], hook: str) -> bool:
    """Tell whether an engine has registered the hook for the start itself: then it is not this project's to change."""
    hooks = member(config, "hooks", dict, _WHAT, {})
    entries = [entry for stage in _OF_START for entry in member(hooks, stage, list, _WHAT, [])]
    paths = [member(entry, "path", str, _WHAT, "") for entry in entries if not _is_of_earlier_start(entry)]
    return any(_same_file(path, hook) for path in paths)


def is_recorded(config: dict[str, Any]) -> bool:
    """Tell whether config.json may have what CDI specifications have brought, by the note that `restore` reads."""
    text = member(config, "annotations", dict, _WHAT, {}).get(PREPARED)
    return type(text) is str and '"described"' in text


def restore(config: dict[str, Any]) -> bool:
    """Remove what `prepare` has added, according to its note; tell whether there was one. The hook stays registered.

    Raises InvalidInput.
    """
    text = member(config, "annotations", dict, _WHAT, {}).pop(PREPARED, None)
    if type(text) is not str:
        return False
    try:
        note = parse(text.encode(), PREPARED)
        paths = member(note, "devices", list, PREPARED, [])
        numbers = member(note, "rules", list, PREPARED, [])
        groups = member(note, "groups", list, PREPARED, [])
        before, after = member(note, "visibleDevices", list, PREPARED, [None, None])
    except (HookError, ValueError):
        return False  # not a note of this project, so there is nothing to remove
    linux = _object(config, "linux")
    # Sets, because both the note and the rules may be long.
    known_paths = {path for path in paths if type(path) is str}
    known_numbers = {tuple(pair) for pair in numbers if type(pair) is list and {*map(type, pair)} <= {int}}
    groups = {group for group in groups if type(group) is int}
    _keep(linux, "devices", lambda entry: member(entry, "path", str, _WHAT) not in known_paths)
    _keep(_object(linux, "resources"), "devices", lambda entry: not _is_rule_of(entry, known_numbers))
    process = _object(config, "process")
    _keep(_object(process, "user"), "additionalGids", lambda entry: type(entry) is not int or entry not in groups)
    if after is not None and f"{_VISIBLE}{after}" in member(process, "env", list, _WHAT, []):
        _keep(process, "env", lambda entry: entry != f"{_VISIBLE}{after}")
        if type(before) is str:
            process["env"].append(f"{_VISIBLE}{before}")
    return True


def is_nvidias(config: dict[str, Any], hook: str) -> bool:
    """Tell whether the engine has registered NVIDIA's hook, which then serves this container."""
    return any(
        os.path.basename(path) in NVIDIA_HOOKS and not _same_file(path, hook)
        for path in _registered(config, ("prestart", "createRuntime"))
    )


def _add_nodes(config: dict[str, Any], grant: Grant) -> list[str]:
    devices = _list(_object(config, "linux"), "devices")
    there = {member(entry, "path", str, _WHAT): index for index, entry in enumerate(devices)}
    added = []
    for node in grant.edits.device_nodes:
        if grant.user_namespace and node.host_path != node.path:
            continue  # the runtime would not find it, so the hook binds it
        entry = {
            "path": node.path,
            "type": node.type,
            "major": node.major,
            "minor": node.minor,
            "fileMode": node.file_mode,
            "uid": node.uid,
            "gid": node.gid,
        }
        if node.path not in there:
            devices.append(entry)
            added.append(node.path)
        elif not _is_node(devices[there[node.path]], node):
            devices[there[node.path]] = entry
    return added


def _is_node(entry: object, node: DeviceNode) -> bool:
    return member(entry, "type", str, _WHAT) in ("c", "u") and _numbers(entry) == (node.major, node.minor)


def _add_rules(config: dict[str, Any], nodes: Sequence[DeviceNode]) -> list[list[int]]:
    rules = _list(_object(_object(config, "linux"), "resources"), "devices")
    there = {(_numbers(entry), entry["access"]) for entry in rules if _is_rule(entry)}
    added = []
    for node in nodes:
        if ((node.major, node.minor), node.permissions) not in there:
            rules.append(_rule(node.major, node.minor, node.permissions))
            added.append([node.major, node.minor])
    return added


def _rule(major: object, minor: object, access: object) -> dict[str, object]:
    return {"allow": True, "type": "c", "major": major, "minor": minor, "access": access}


def _is_rule(entry: object) -> bool:
    """Tell whether a rule has the form of this project's rules; an engine's may have it too."""
    access = member(entry, "access", str, _WHAT)
    return entry == _rule(*_numbers(entry), access)


def _numbers(entry: object) -> tuple[int | None, int | None]:
    return member(entry, "major", int, _WHAT), member(entry, "minor", int, _WHAT)


def _is_rule_of(entry: object, numbers: Container[tuple[int | None, int | None]]) -> bool:
    return _numbers(entry) in numbers and _is_rule(entry) and member(entry, "access", str, _WHAT) == "rw"


def _add_groups(config: dict[str, Any], groups: Sequence[int]) -> list[int]:
    user = _object(_object(config, "process"), "user")
    if not groups:
        return []
    there = _list(user, "additionalGids")
    added = [group for group in groups if group not in there]
    there += added
    return added


def _set_visible(config: dict[str, Any], uuids: Sequence[str]) -> list[str | None]:
    """Set NVIDIA_VISIBLE_DEVICES; return its old value (None: unset) and its new one (None: unchanged)."""
    process = _object(config, "process")
    env = _list(process, "env")
    there = [entry for entry in env if type(entry) is str and entry.startswith(_VISIBLE)]
    before = there[-1].removeprefix(_VISIBLE) if there else None  # the last one wins
    if not uuids:
        return [before, None]
    after = ",".join(uuids)
    process["env"] = [entry for entry in env if entry not in there] + [_VISIBLE + after]
    return [before, after]


def _register(config: dict[str, Any], stage: str, hook: str, options: Sequence[str] = ()) -> None:
    """Register the hook, unless this path or another one that leads to it is registered already.

    An entry that was made for an earlier start of the bundle is replaced: its options were for that start.
    """
    hooks = _object(config, "hooks")
    _keep(hooks, stage, lambda entry: not _is_of_earlier_start(entry))
    alike = _OF_START if stage == "prestart" else (stage,)
    if any(_same_file(path, hook) for path in _registered(config, alike)):
        return
    arguments = ["oci-gpu-hook", *options, stage]
    _list(hooks, stage).append({"path": hook, "args": arguments, "env": list(HOOK_ENVIRONMENT)})


def _is_of_earlier_start(entry: object) -> bool:
    arguments = member(entry, "args", list, _WHAT, [])
    return bool(arguments[1:2] == [STANDBY])


def _registered(config: dict[str, Any], stages: Sequence[str]) -> list[str]:
    hooks = member(config, "hooks", dict, _WHAT, {})
    entries = [entry for stage in stages for entry in member(hooks, stage, list, _WHAT, [])]
    return [member(entry, "path", str, _WHAT, "") for entry in entries]


def _same_file(path: str, hook: str) -> bool:
    """Tell whether a path leads to the hook, or to a copy of it from another installation."""
    return os.path.basename(path) == "oci-gpu-hook" or os.path.realpath(path) == os.path.realpath(hook)


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    return _member(parent, name, dict)  # type: ignore[no-any-return]


def _list(parent: dict[str, Any], name: str) -> list[Any]:
    return _member(parent, name, list)  # type: ignore[no-any-return]


def _member(parent: dict[str, Any], name: str, kind: type) -> Any:
    """Return a member; create it if it is absent or null."""
    found = member(parent, name, kind, _WHAT)
    if found is None:
        found = parent[name] = kind()
    return found


def _keep(parent: dict[str, Any], name: str, wanted: Any) -> None:
    found = member(parent, name, list, _WHAT)
    if found is not None:
        parent[name] = [entry for entry in found if wanted(entry)]
