"""Registers the hook in the oci-hooks format of Podman and CRI-O: a JSON file in a directory that the engine reads.

oci-hooks(5). Its conditions can test the command, annotations and bind mounts of a container, but not its environment,
by which most containers ask. So the hook is called for every container, and its front ends at once for those that ask
for nothing. Both stages share one argument list: at poststop the state says `stopped`.
"""

from __future__ import annotations

import json  # noqa: TID253
import os

from oci_gpu_hook.admin.engines import files, hooks_directories, programs
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.hooks_directories import USUAL
from oci_gpu_hook.admin.engines.model import Change, Finding
from oci_gpu_hook.apply.bundle import HOOK_ENVIRONMENT
from oci_gpu_hook.base.config.load import DEFAULT_PATH
from oci_gpu_hook.base.errors import HookError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from oci_gpu_hook.admin.engines.hooks_directories import Directories
    from oci_gpu_hook.admin.engines.model import Target

FILE_NAME: Final = "oci-gpu-hook.json"
_CALLED: Final = {"podman": "Podman", "crio": "CRI-O"}
_READERS: Final = {
    "podman": (hooks_directories.of_podman, hooks_directories.of_rootless_podman),
    "crio": (hooks_directories.of_crio,),
}


def document(hook: str, config: str = DEFAULT_PATH) -> dict[str, object]:
    """Return the file's contents: version 1.0.0 of the format. config: this project's configuration."""
    options = () if config == DEFAULT_PATH else ("--config", config)
    return {
        "version": "1.0.0",
        "hook": {"path": hook, "args": ["oci-gpu-hook", *options, "prestart"], "env": list(HOOK_ENVIRONMENT)},
        "when": {"always": True},
        "stages": ["prestart", "poststop"],
    }


def install(target: Target, read: Sequence[Directories]) -> tuple[Change, ...]:
    """Return the changes that register the hook, () if it is registered. Raises HookError.

    read: the directories that an engine reads, for each kind of user with its own.
    """
    changes = []
    after = json.dumps(document(target.hook, target.config), indent=2).encode() + b"\n"
    for path in dict.fromkeys(_chosen(target, directories) for directories in read):
        before = files.read(path)
        if before is not None and not _is_ours(before):
            raise EngineFileError(quoted(path), "was not made by oci-gpu-hook", "move it away first", "OGH1801")
        if before != after:
            changes.append(Change(path=path, before=before, after=after))
    return tuple(changes)


def uninstall(target: Target, engine: str, read: Sequence[Directories]) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Return the changes that remove the hook, and notes on what stays. Raises HookError."""
    directories = [path for each in read for path in each.paths]
    changes = []
    notes = []
    for directory in dict.fromkeys([target.hooks_directory] if target.hooks_directory else [USUAL, *directories]):
        path = _file(target, directory)
        before = files.read(path)
        if before is None:
            continue
        if not _is_ours(before):
            raise EngineFileError(
                quoted(path), "was not made by oci-gpu-hook", "remove it by hand if it is to go", "OGH1801"
            )
        if other := _other_reader(target, engine, path):
            commands = f"`oci-gpu uninstall {other}` or `oci-gpu uninstall --all`"
            notes.append(f"{path} stays for {_CALLED[other]}, which reads it too; to remove it: {commands}")
            continue
        changes.append(Change(path=path, before=before, after=None))
    return tuple(changes), tuple(notes)


def _other_reader(target: Target, engine: str, path: str) -> str:
    """Return the other engine that was given the hook by the same file, "" for none.

    Before there was a record, the file was everybody's who reads it.
    """
    for other, read in _READERS.items():
        if other == engine or target.everything:
            continue
        entries = [each for each in target.others if each.engine == other]
        named = [each.hooks_directory for each in entries if each.hooks_directory]
        if any(path == _file(target, each) for each in named):
            return other
        is_recorded = len(named) < len(entries)
        if is_recorded or (not target.recorded and programs.find(target.root, other)):
            paths = [each for reader in read for each in reader(target.root).paths]
            if path in [_file(target, each) for each in paths]:
                return other
    return ""


def check(root: str, engine: str, command: str, reads: Callable[[str], Directories]) -> Finding:
    """Return the findings about the hook's file in the directories that an engine reads."""
    remedy = f"run `oci-gpu install {command}`"
    try:
        directories = reads(root)
        files_there = [os.path.join(root, path.lstrip("/"), FILE_NAME) for path in directories.paths]
        contents = {path: found for path in files_there if (found := files.read(path)) is not None}
    except HookError as error:
        return Finding(ok=False, text=f"{engine}: {error.what}: {error.why}", remedy=error.remedy)
    if not contents:
        said = f", as {directories.said_in} says" if directories.said_in else ""
        where = " nor in ".join(os.path.dirname(path) for path in files_there) or "any directory"
        text = f"{engine} does not know the hook: there is no {FILE_NAME} in {where}, where it reads hooks{said}"
        return Finding(ok=False, text=text, remedy=remedy)
    path = [*contents][-1]  # of several files with one name the last directory's counts
    hook = _hook_of(contents[path])
    if not hook or not os.access(os.path.join(root, hook.lstrip("/")), os.X_OK):
        return Finding(ok=False, text=f"{engine}: {path} names no hook that can be run", remedy=remedy)
    return Finding(ok=True, text=f"{engine} calls the hook by {path}")


def _chosen(target: Target, directories: Directories) -> str:
    """Return the path of the hook's file in the chosen one of an engine's directories."""
    if target.hooks_directory:
        path = _file(target, target.hooks_directory)
        if not os.path.isdir(os.path.dirname(path)):
            remedy = "make it, and name it as hooks_dir in the engine's configuration"
            raise EngineFileError(quoted(os.path.dirname(path)), "is not a directory", remedy, "OGH1802")
        return path
    if not directories.paths:
        why = "names no directory for hooks"
        raise EngineFileError(quoted(directories.said_in), why, f"name {USUAL} there as hooks_dir", "OGH1818")
    paths = [_file(target, directory) for directory in directories.paths]
    there = [path for path in paths if os.path.exists(path)]
    usual = [path for path in paths if path == _file(target, USUAL)]
    made = [path for path in paths if os.path.isdir(os.path.dirname(path))]
    return [*paths[-1:], *made, *usual, *there][-1]


def _file(target: Target, directory: str) -> str:
    return os.path.join(target.path(directory), FILE_NAME)


def _is_ours(contents: bytes) -> bool:
    return os.path.basename(_hook_of(contents)) == "oci-gpu-hook"


def _hook_of(contents: bytes) -> str:
    try:
        path = json.loads(contents)["hook"]["path"]
    except (ValueError, KeyError, TypeError):
        return ""
    return path if type(path) is str else ""
