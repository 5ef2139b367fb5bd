"""GPUs that Docker Swarm hands out: `node-generic-resources` of daemon.json, and `swarm-resource` of config.toml.

Swarm gives each replica of a service with `--generic-resource KIND=1` one of the names that nodes have of the kind, and
the node's dockerd puts them into DOCKER_RESOURCE_KIND, in capitals (moby, daemon/cluster/executor/container and
swarmkit, api/genericresource). By that variable a container asks like by NVIDIA_VISIBLE_DEVICES. A service names no
runtime, so this project's is the default one.
"""

from __future__ import annotations

import tomllib  # noqa: TID253

from oci_gpu_hook.admin.engines import files, json_text
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.model import BACKUP_SUFFIX, RUNTIME_NAME, Change, Finding, Target
from oci_gpu_hook.base.config.load import DEFAULT_PATH
from oci_gpu_hook.base.errors import HookError, one_line, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

KIND: Final = "NVIDIA-GPU"  # as in Docker's documentation
RESOURCES: Final = "node-generic-resources"
_PREFIX: Final = "DOCKER_RESOURCE_"
_MARK: Final = "# by `oci-gpu install docker --swarm`"
_TABLE: Final = "[request]"
_KEY: Final = "swarm-resource"


def variable(kind: str) -> str:
    """Return the environment variable in which a container finds what it was given of a kind."""
    return f"{_PREFIX}{kind.upper()}"


def check_place(target: Target) -> None:
    """Raise EngineFileError for a host whose GPUs cannot be seen from here."""
    if target.root != "/":
        remedy = "run `oci-gpu install docker --swarm` on the node, at its first start"
        raise EngineFileError(
            "--swarm", f"needs the GPUs of the node, and {quoted(target.root)} is an image", remedy, "OGH1815"
        )


def check_kind(kind: str) -> None:
    """Raise EngineFileError for a kind that cannot be one, or whose variable the configuration cannot name."""
    if not kind.replace("-", "").replace("_", "").isalnum() or not kind.isascii():
        raise EngineFileError(
            f"--swarm {quoted(kind)}", "cannot be a kind of resources", f"leave it out: {KIND}", "OGH1814"
        )


def findings(daemon: dict[str, Any], root: str) -> list[Finding]:
    """Return what there is to say of a node that hands out GPUs; nothing where it hands out none."""
    found = []
    for kind in kinds_of(daemon):
        remedy = f"run `oci-gpu install docker --swarm {kind}`"
        path = Target(root=root, hook="", runtime="").path(DEFAULT_PATH)
        try:
            config = _load(files.text_of(files.read(path) or b"", path), path)
        except HookError as error:
            return [Finding(ok=False, text=f"Docker Swarm: {error.what}: {error.why}", remedy=error.remedy)]
        asks = variable(kind) in _names(config)
        if not asks:
            text = f"Docker Swarm hands out {kind}, and {_KEY} does not name {variable(kind)}"
            found.append(Finding(ok=False, text=text, remedy=remedy))
        if daemon.get("default-runtime") != RUNTIME_NAME:
            text = (
                f"Docker Swarm hands out {kind}, and {RUNTIME_NAME} is not the default runtime, by which services run"
            )
            found.append(Finding(ok=False, text=text, remedy=remedy))
        elif asks:
            count = sum(_is_of(each, kind) for each in daemon[RESOURCES])
            found.append(Finding(ok=True, text=f"Docker Swarm hands out {count} {kind}"))
    return found


def with_resources(text: str, kind: str, uuids: list[str]) -> str:
    """Return a daemon.json in which the node has these GPUs and, of other kinds, what it had. Raises ValueError."""
    there = json_text.load(text).get(RESOURCES, [])
    if type(there) is not list:
        raise ValueError(f"{RESOURCES} is not a list")
    others = [each for each in there if not _is_of(each, kind)]
    wanted = [*others, *(f"{kind}={uuid}" for uuid in uuids)]
    return text if wanted == there else json_text.with_member(text, (RESOURCES,), wanted)


def without_resources(text: str, kinds: list[str]) -> str:
    """Return a daemon.json without the GPUs of these kinds."""
    there = json_text.load(text).get(RESOURCES)
    if type(there) is not list:
        return text
    others = [each for each in there if not any(_is_of(each, kind) for kind in kinds)]
    if others == there:
        return text
    return json_text.with_member(text, (RESOURCES,), others) if others else json_text.without_member(text, (RESOURCES,))


def kinds_of(daemon: dict[str, Any]) -> list[str]:
    """Return the kinds of a daemon.json by which GPUs or MIG devices are handed out."""
    there = daemon.get(RESOURCES)
    pairs = [each.partition("=") for each in there if type(each) is str] if type(there) is list else []
    return [*dict.fromkeys(kind for kind, _, name in pairs if name.startswith(("GPU-", "MIG-")))]


def config_change(target: Target, kind: str) -> Change | None:
    """Return the change of config.toml by which the variable asks, None where it does. Raises EngineFileError."""
    path = target.path(DEFAULT_PATH)
    before = files.read(path)
    text = files.text_of(before or b"", path)
    after = with_key(text, variable(kind), path)
    if after == text:
        return None
    return Change(path=path, before=before, after=after.encode(), backup=_MARK not in text)


def config_restored(target: Target) -> Change | None:
    """Return the change that takes the key out of config.toml again, None where there is none of ours."""
    path = target.path(DEFAULT_PATH)
    before = files.read(path)
    text = files.text_of(before or b"", path)
    ours = [line for line in text.split("\n") if line.startswith(_KEY) and line.endswith(_MARK)]
    if before is None or not ours:
        return None
    backup = files.read(path + BACKUP_SUFFIX)
    value = ours[0].split('"')[1]
    try:
        untouched = with_key(files.text_of(backup or b"", path), value, path) == text
    except EngineFileError:
        untouched = False
    # The table's head stays in a file that was edited: there may be other keys below it by now.
    lines = files.lines_of(text)
    bare = "".join(line.replace(f" {_MARK}", "") for line in lines if _MARK not in line or _KEY not in line)
    return Change(path=path, before=before, after=backup if untouched else bare.encode())


def with_key(text: str, name: str, path: str) -> str:
    """Return a config.toml in which a variable asks. Raises EngineFileError."""
    config = _load(text, path)
    names = _names(config)
    if name in names:
        return text
    if names:
        remedy = f'add {name} to it by hand: {_KEY} = "{",".join((*names, name))}"'
        raise EngineFileError(quoted(path), f"has another {_KEY}: {quoted(', '.join(names))}", remedy, "OGH1815")
    line = f'{_KEY} = "{name}" {_MARK}\n'
    lines = [each for each in files.lines_of(text) if each.partition("=")[0].strip() != _KEY]
    at = next((place for place, each in enumerate(lines) if each.partition("#")[0].strip() == _TABLE), None)
    if at is None:
        head = "".join(lines)
        after = f"{head}{'' if not head or head.endswith(chr(10)) else chr(10)}{_TABLE} {_MARK}\n{line}"
    else:
        after = "".join((*lines[: at + 1], line, *lines[at + 1 :]))
    wanted = {**config, "request": {**config.get("request", {}), _KEY: name}}
    try:
        is_right = tomllib.loads(after) == wanted
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise EngineFileError(
            quoted(path), "cannot be extended", f'write {_KEY} = "{name}" into its {_TABLE}', "OGH1805"
        )
    return after


def _names(config: dict[str, Any]) -> list[str]:
    request = config.get("request", {})
    there = request.get(_KEY, "") if type(request) is dict else ""
    names = there.split(",") if type(there) is str else [str(each) for each in there]
    return [each.strip() for each in names if each.strip()]


def _load(text: str, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        remedy = "correct it, or move it away for a new one"
        raise EngineFileError(quoted(path), f"is not TOML: {one_line(str(error))}", remedy, "OGH1805") from None


def _is_of(entry: object, kind: str) -> bool:
    return type(entry) is str and entry.partition("=")[0] == kind
