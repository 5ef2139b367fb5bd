"""What oci-gpu-runtime changes in a bundle's config.json, and its undoing. Pure: works on the parsed document.

What the runtime knows before it makes a container, it owns: device nodes and their cgroup rules in config.json are set
by runc and, through it, by systemd, so that no `systemctl daemon-reload` takes them away. All else is the hook's to do.

A bundle may be started again, and may then be granted other GPUs: a note in its annotations says what was put in, so
that it is taken out first. The note is no authority: what it names can only be taken away.
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
# NVIDIA's hook by the name that dockerd calls it by; where NVIDIA's is absent, that name may be a link to ours.
NVIDIA_HOOKS: Final = ("nvidia-container-runtime-hook", "nvidia-container-toolkit")
STANDBY: Final = "--standby"  # the hook's option; entrypoints.runtime_standby
HOOK_ENVIRONMENT: Final = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin",)


class Grant(Record):
    """What a bundle gets. uuids: of the granted devices, for NVIDIA_VISIBLE_DEVICES; () leaves the variable alone.

    edits: device nodes and groups. hook: path of the executable to register. user_namespace: whether the runtime will
    bind nodes from the host by their container path, and knows no groups of the host. standby: where a process waits
    for the hook to attach the rest, "" where none does.
    """

    uuids: tuple[str, ...]
    edits: ContainerEdits
    hook: str
    user_namespace: bool
    standby: str = ""


def prepare(config: dict[str, Any], grant: Grant) -> None:
    """Put a grant into a config.json from which `restore` has taken what was there. Raises InvalidInput."""
    note = {
        "devices": _add_nodes(config, grant),
        "rules": _add_rules(config, grant.edits.device_nodes),
        "groups": [] if grant.user_namespace else _add_groups(config, grant.edits.additional_gids),
        "visibleDevices": _set_visible(config, grant.uuids),
    }
    _register(config, "prestart", grant.hook, (STANDBY, grant.standby) if grant.standby else ())
    _register(config, "poststop", grant.hook)
    _object(config, "annotations")[PREPARED] = dump(note).decode("ascii")


def restore(config: dict[str, Any]) -> bool:
    """Take out what `prepare` has put in, if its note is there; tell whether it was. The hook stays registered.

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
        return False  # not a note of ours, so there is nothing of ours to take out
    linux = _object(config, "linux")
    # Sets: a note may name as many as the rules that it is compared with.
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
    """Tell whether the engine has registered NVIDIA's own hook, which then serves this container."""
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
            continue  # the hook binds what the runtime would not find
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
    """Tell whether a rule is of the form of this project's, which any engine's may be."""
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
    """Set NVIDIA_VISIBLE_DEVICES; return what it was (None: unset) and what it is (None: left alone)."""
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
    """Register the hook unless it is registered already, by this name or another that leads to it.

    An entry that was made for an earlier start of the bundle is made again: its options were for that one.
    """
    hooks = _object(config, "hooks")
    _keep(hooks, stage, lambda entry: not _is_of_earlier_start(entry))
    alike = ("prestart", "createRuntime") if stage == "prestart" else (stage,)
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
    """Tell whether a path leads to the hook, or to a copy of it laid elsewhere (by another installation)."""
    return os.path.basename(path) == "oci-gpu-hook" or os.path.realpath(path) == os.path.realpath(hook)


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    return _member(parent, name, dict)  # type: ignore[no-any-return]


def _list(parent: dict[str, Any], name: str) -> list[Any]:
    return _member(parent, name, list)  # type: ignore[no-any-return]


def _member(parent: dict[str, Any], name: str, kind: type) -> Any:
    """Return a member, made where it is absent or null."""
    found = member(parent, name, kind, _WHAT)
    if found is None:
        found = parent[name] = kind()
    return found


def _keep(parent: dict[str, Any], name: str, wanted: Any) -> None:
    found = member(parent, name, list, _WHAT)
    if found is not None:
        parent[name] = [entry for entry in found if wanted(entry)]
