"""containerd: a runtime handler for Kubernetes (CRI) in config.toml.

containerd's docs/cri/config.md. The handler is appended as a marked block, so that every other byte of the file stays.
A drop-in file (`imports`) does not work: in 1.x the imported file's settings of a plugin replace all of the main
file's.
"""

from __future__ import annotations

import os
import tomllib  # noqa: TID253

from oci_gpu_hook.admin.engines import files, programs
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.model import BACKUP_SUFFIX, RUNTIME_NAME, Change, Finding, Steps
from oci_gpu_hook.base.errors import HookError, one_line, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.admin.engines.model import Target

FILE: Final = "/etc/containerd/config.toml"
_OLDEST: Final = (1, 3)
_BEGIN: Final = "# BEGIN oci-gpu-hook: made by `oci-gpu install containerd`, removed by `oci-gpu uninstall containerd`"
_END: Final = "# END oci-gpu-hook"
# The plugin with the runtime handlers, by the version of the file's format.
_PLUGINS: Final = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
_FIRST_LINES: Final = {version: f"version = {version}\n" for version in _PLUGINS}  # for a new file
_FIRST_WITH_3: Final = (2, 0)  # containerd 2 also reads version 2
_ANNOTATIONS: Final = '["io.oci-gpu-hook.*", "cdi.k8s.io/*"]'


def install(target: Target) -> Steps:
    """Return the changes that install the handler, without making them. Raises HookError."""
    if not target.file:
        programs.require(target.root, "containerd", _OLDEST, "version 2 of config.toml")
    if not target.runtime:
        raise EngineFileError(
            "oci-gpu-runtime", "found neither runc nor crun on PATH", "install runc (apt install runc)", "OGH1803"
        )
    path = target.path(target.file or FILE)
    before = files.read(path)
    text = files.text_of(before or b"", path)
    bare = _without_block(text, path)
    if not bare:
        bare = _FIRST_LINES[_newest_version(target.root)]
    config = _load(bare, path)
    version = _version(config, path)
    handlers = _table(_runtimes_plugin(config, version), "containerd", "runtimes")
    if RUNTIME_NAME in handlers:
        why = f"has another handler of the name {RUNTIME_NAME}"
        raise EngineFileError(quoted(path), why, "rename or remove that handler first", "OGH1811")
    after = _with_block(bare, target.runtime, version, handlers)
    _check(after, path, config, version, target.runtime)
    changes = []
    if after != text:
        changes.append(Change(path=path, before=before, after=after.encode(), backup=_BEGIN not in text))
    notes = [f"in Kubernetes a RuntimeClass with `handler: {RUNTIME_NAME}` asks for it (docs/engines.md)"]
    notes.append(f"without Kubernetes: ctr run --runc-binary {target.runtime} --env NVIDIA_VISIBLE_DEVICES=0 …")
    if changes:
        notes.insert(0, "restart containerd: systemctl restart containerd (containers keep running)")
    warnings = []
    if {"cri", _PLUGINS[version]} & {*_list(config, "disabled_plugins")}:
        warnings.append(f"{path} disables the CRI plugin: only `ctr run --runc-binary` is served")
    return Steps(changes=tuple(changes), notes=tuple(notes), warnings=tuple(warnings))


def uninstall(target: Target) -> Steps:
    """Return the changes that remove the handler, without making them. Raises HookError."""
    path = target.path(target.file or FILE)
    before = files.read(path)
    text = files.text_of(before or b"", path)
    bare = _without_block(text, path)
    if before is None or bare == text:
        return Steps(changes=())
    backup = files.read(path + BACKUP_SUFFIX)
    original = files.text_of(backup or b"", path)
    started_with = {original if original.endswith("\n") else original + "\n"} if original else {*_FIRST_LINES.values()}
    untouched = bare in started_with
    after = backup if untouched else bare.encode()
    notes = ["restart containerd: systemctl restart containerd"]
    if not untouched:
        notes.insert(0, f"{path} was edited since the installation: only what was installed is removed")
    return Steps(changes=(Change(path=path, before=before, after=after),), notes=tuple(notes))


def check(root: str = "/") -> list[Finding]:
    """Return the findings about containerd, none if it is not installed."""
    if not programs.find(root, "containerd"):
        return []
    path = os.path.join(root, FILE.lstrip("/"))
    remedy = "run `oci-gpu install containerd`"
    try:
        config = _load(files.text_of(files.read(path) or b"", path) or _FIRST_LINES[2], path)
        version = _version(config, path)
    except HookError as error:
        return [Finding(ok=False, text=f"containerd: {error.what}: {error.why}", remedy=error.remedy)]
    options = _table(_runtimes_plugin(config, version), "containerd", "runtimes", RUNTIME_NAME, "options")
    runtime = options.get("BinaryName", "")
    if not runtime:
        return [Finding(ok=False, text=f"containerd has no handler {RUNTIME_NAME}", remedy=remedy)]
    if not os.access(os.path.join(root, str(runtime).lstrip("/")), os.X_OK):
        return [Finding(ok=False, text=f"containerd's runtime {quoted(runtime)} cannot be run", remedy=remedy)]
    return [Finding(ok=True, text=f"containerd has the handler {RUNTIME_NAME}: {runtime}")]


def _newest_version(root: str) -> int:
    """Return the newest version of the format that both this project and the installed containerd know."""
    path = programs.find(root, "containerd") if root == "/" else ""  # programs of another file system are not run
    found = programs.version(path) if path else None
    return 3 if found and found >= _FIRST_WITH_3 else 2


def _load(text: str, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        why = f"is not TOML: {one_line(str(error))}"
        raise EngineFileError(quoted(path), why, "correct it, or move it away for a new one", "OGH1805") from None


def _version(config: dict[str, Any], path: str) -> int:
    version = config.get("version", 1)
    if version not in _PLUGINS:
        why = f"is of version {version} of the format, and handlers are made in versions 2 and 3"
        raise EngineFileError(
            quoted(path), why, "move it to version 2 (`containerd config migrate` prints it)", "OGH1812"
        )
    return int(version)


def _runtimes_plugin(config: dict[str, Any], version: int) -> dict[str, Any]:
    return _table(config, "plugins", _PLUGINS[version])


def _table(config: dict[str, Any], *names: str) -> dict[str, Any]:
    found: Any = config
    for name in names:
        found = found.get(name, {})
        if type(found) is not dict:
            return {}
    return found  # type: ignore[no-any-return]


def _list(config: dict[str, Any], name: str) -> list[str]:
    found = config.get(name, [])
    return found if type(found) is list else []


def _block(runtime: str, version: int, handlers: dict[str, Any]) -> str:
    runtimes = f'plugins."{_PLUGINS[version]}".containerd.runtimes'
    table = f"{runtimes}.{RUNTIME_NAME}"
    lines = [_BEGIN]
    if "runc" not in handlers:
        # containerd 1.6 has its built-in default handler, runc, only if the file names no handler.
        lines += [f"[{runtimes}.runc]", '  runtime_type = "io.containerd.runc.v2"']
    lines += [
        f"[{table}]",
        '  runtime_type = "io.containerd.runc.v2"',
        f"  pod_annotations = {_ANNOTATIONS}",
        f"  container_annotations = {_ANNOTATIONS}",
        f"  [{table}.options]",
        f'    BinaryName = "{_escaped(runtime)}"',
    ]
    options = _table(handlers, "runc", "options")
    if type(options.get("SystemdCgroup")) is bool:  # the kubelet decides on the cgroup driver for all handlers
        lines.append(f"    SystemdCgroup = {str(options['SystemdCgroup']).lower()}")
    return "\n".join([*lines, _END, ""])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _with_block(text: str, runtime: str, version: int, handlers: dict[str, Any]) -> str:
    separator = "" if text.endswith("\n") else "\n"
    return f"{text}{separator}\n{_block(runtime, version, handlers)}"


def _without_block(text: str, path: str) -> str:
    """Return the text without the appended block. Raises EngineFileError for an incomplete block."""
    before, begin, rest = text.partition(f"\n{_BEGIN}\n")
    if not begin:
        return text
    _, end, after = rest.partition(f"{_END}\n")
    if not end or _BEGIN in after:
        raise EngineFileError(
            quoted(path), "has a damaged block of oci-gpu-hook", f"remove what follows {_BEGIN!r}", "OGH1805"
        )
    return before + after


def _check(after: str, path: str, before: dict[str, Any], version: int, runtime: str) -> None:
    """Raise EngineFileError unless the new text has the old one's settings and the handler."""
    try:
        config = tomllib.loads(after)
    except tomllib.TOMLDecodeError as error:
        why = f"cannot be extended at its end: {one_line(str(error))}"
        raise EngineFileError(quoted(path), why, "write its runtimes as tables, not inline", "OGH1812") from None
    handlers = _table(_runtimes_plugin(config, version), "containerd", "runtimes")
    handler = handlers.pop(RUNTIME_NAME)
    if "runc" not in _table(_runtimes_plugin(before, version), "containerd", "runtimes"):
        del handlers["runc"]
    if handler["options"]["BinaryName"] != runtime or _pruned(config) != _pruned(before):
        raise EngineFileError(quoted(path), "would change its meaning", "report this with the file", "OGH1805")


def _pruned(value: Any) -> Any:
    """Return a document without empty tables, which the handler's path may have created."""
    if type(value) is not dict:
        return value
    pruned = {name: _pruned(member) for name, member in value.items()}
    return {name: member for name, member in pruned.items() if member != {}}
