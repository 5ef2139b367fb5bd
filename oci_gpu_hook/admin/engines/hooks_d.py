"""The oci-hooks format of Podman and CRI-O: a JSON file in a directory that both read by default.

oci-hooks(5). Its conditions know the command, annotations and bind mounts of a container, not its environment, by which
most containers ask; so the hook is called for every container, and its front answers those that ask for nothing.
One argument list serves both stages: at poststop the state says `stopped`.
"""

from __future__ import annotations

import json  # noqa: TID253
import os

from oci_gpu_hook.admin.engines import files
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.model import Change, Finding
from oci_gpu_hook.apply.bundle import HOOK_ENVIRONMENT
from oci_gpu_hook.base.errors import HookError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.admin.engines.model import Target

DIRECTORY: Final = "/usr/share/containers/oci/hooks.d"
FILE_NAME: Final = "oci-gpu-hook.json"


def document(hook: str) -> dict[str, object]:
    """Return the file's contents: version 1.0.0 of the format."""
    return {
        "version": "1.0.0",
        "hook": {"path": hook, "args": ["oci-gpu-hook", "prestart"], "env": list(HOOK_ENVIRONMENT)},
        "when": {"always": True},
        "stages": ["prestart", "poststop"],
    }


def install(target: Target) -> tuple[Change, ...]:
    """Return the change that registers the hook, () where it is registered. Raises HookError."""
    path = _path(target)
    if target.hooks_directory and not os.path.isdir(os.path.dirname(path)):
        remedy = "make it, and name it as hooks_dir in the engine's configuration"
        raise EngineFileError(quoted(os.path.dirname(path)), "is no directory", remedy)
    before = files.read(path)
    after = json.dumps(document(target.hook), indent=2).encode() + b"\n"
    if before == after:
        return ()
    if before is not None and not _is_ours(before):
        raise EngineFileError(quoted(path), "is not this project's", "move it away first")
    return (Change(path=path, before=before, after=after),)


def uninstall(target: Target) -> tuple[Change, ...]:
    """Return the change that takes the hook away, () where it is not there. Raises HookError."""
    path = _path(target)
    before = files.read(path)
    if before is None:
        return ()
    if not _is_ours(before):
        raise EngineFileError(quoted(path), "is not this project's", "remove it by hand if it is to go")
    return (Change(path=path, before=before, after=None),)


def check(root: str, engine: str, command: str) -> list[Finding]:
    """Return what there is to say about the hook's file."""
    path = os.path.join(root, DIRECTORY.lstrip("/"), FILE_NAME)
    remedy = f"run `oci-gpu install {command}`"
    try:
        contents = files.read(path)
    except HookError as error:
        return [Finding(ok=False, text=f"{engine}: {error.what}: {error.why}", remedy=error.remedy)]
    if contents is None:
        return [Finding(ok=False, text=f"{engine} does not know the hook: there is no {path}", remedy=remedy)]
    hook = _hook_of(contents)
    if not hook or not os.access(os.path.join(root, hook.lstrip("/")), os.X_OK):
        return [Finding(ok=False, text=f"{engine}: {path} names no hook that can be run", remedy=remedy)]
    return [Finding(ok=True, text=f"{engine} calls the hook by {path}")]


def _path(target: Target) -> str:
    return os.path.join(target.path(target.hooks_directory or DIRECTORY), FILE_NAME)


def _is_ours(contents: bytes) -> bool:
    return os.path.basename(_hook_of(contents)) == "oci-gpu-hook"


def _hook_of(contents: bytes) -> str:
    try:
        path = json.loads(contents)["hook"]["path"]
    except (ValueError, KeyError, TypeError):
        return ""
    return path if type(path) is str else ""
