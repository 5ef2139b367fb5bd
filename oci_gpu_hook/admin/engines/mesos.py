"""Mesos agents: a launcher directory with the front as mesos-containerizer, and links to all other programs.

The real directory is not changed. The agent finds each of its programs in --launcher_dir by name.
"""

from __future__ import annotations

import os

from oci_gpu_hook.admin.engines import files
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.model import Change, Finding, Steps
from oci_gpu_hook.admin.install.front_file import read_front
from oci_gpu_hook.base.errors import quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.admin.engines.model import Target

HELPER: Final = "mesos-containerizer"
LAUNCHER: Final = "/usr/libexec/mesos"  # PKGLIBEXECDIR of Mesos' packages
OUTPUT: Final = "/usr/libexec/oci-gpu-hook/mesos"
_REMEDY: Final = "name the directory that Mesos' package has installed: --launcher-dir DIR"


def front_of(target: Target) -> tuple[str, str]:
    """Return the path of the front, and that of the real helper."""
    return os.path.join(output_of(target), HELPER), os.path.join(_launcher(target), HELPER)


def install(target: Target) -> Steps:
    """Return the links of the new launcher directory; the front is installed beside them. Raises HookError."""
    launcher, output = _launcher(target), output_of(target)
    names = _programs(launcher)
    front, _ = front_of(target)
    if os.path.lexists(front) and not _is_front(front):
        raise EngineFileError(
            quoted(front), "was not made by oci-gpu-hook", "name an empty directory as --output", "OGH1801"
        )
    changes = [_link(os.path.join(output, name), os.path.join(launcher, name)) for name in names if name != HELPER]
    gone = [name for name in _links(output) if name not in names]
    changes += [Change(path=path, before=_target(path), after=None, link=True) for path in _paths(output, gone)]
    notes = (
        f"start the agent with --launcher_dir={output}",
        "agents built with --enable-launcher-sealing read it when they start: restart them after each upgrade",
        "containers that run are not touched; docs/mesos.md has the agent's other flags",
    )
    return Steps(changes=tuple(change for change in changes if change.before != change.after), notes=notes)


def uninstall(target: Target) -> Steps:
    """Return the changes that remove the launcher directory. Raises HookError."""
    output = output_of(target)
    front, _ = front_of(target)
    if not os.path.lexists(front):
        return Steps(changes=())
    if not _is_front(front):
        raise EngineFileError(
            quoted(front), "was not made by oci-gpu-hook", "name the directory that was made: --output DIR", "OGH1801"
        )
    changes = [
        Change(path=path, before=_target(path), after=None, link=True) for path in _paths(output, _links(output))
    ]
    for path in (front, f"{front}.py", f"{front}.pyc", f"{front}.modules"):
        contents = files.read(path)
        if contents is not None:
            changes.append(Change(path=path, before=contents, after=None))
    notes = (f"an agent that has --launcher_dir={output} starts no container any more: give it the real one",)
    return Steps(changes=tuple(changes), notes=notes)


def check(root: str = "/") -> list[Finding]:
    """Return the findings about the launcher directory at its usual path, none if it does not exist."""
    output = os.path.join(root, OUTPUT.lstrip("/"))
    front = os.path.join(output, HELPER)
    if not os.path.lexists(front):
        return []
    remedy = "run `oci-gpu install mesos`"
    if not _is_front(front):
        return [Finding(ok=False, text=f"Mesos: {front} was not made by oci-gpu-hook", remedy=remedy)]
    if dead := [path for path in _paths(output, _links(output)) if not os.path.exists(path)]:
        return [Finding(ok=False, text=f"Mesos: {dead[0]} leads to nothing: Mesos was moved", remedy=remedy)]
    return [Finding(ok=True, text=f"Mesos agents with --launcher_dir={OUTPUT} call the hook")]


def _launcher(target: Target) -> str:
    return os.path.abspath(target.path(target.launcher_directory or LAUNCHER))


def output_of(target: Target) -> str:
    """Return the path of the launcher directory that is made."""
    return os.path.abspath(target.path(target.output or OUTPUT))


def _programs(launcher: str) -> list[str]:
    """Return the names in the real launcher directory. Raises EngineFileError if it is not one."""
    try:
        names = sorted(os.listdir(launcher))
    except OSError as error:
        raise EngineFileError(f"launcher directory {quoted(launcher)}", reason(error), _REMEDY, "OGH1807") from None
    helper = os.path.join(launcher, HELPER)
    if not os.access(helper, os.X_OK):
        raise EngineFileError(quoted(helper), "cannot be executed", _REMEDY, "OGH1807")
    if _is_front(helper):
        raise EngineFileError(
            quoted(helper), "is the front of oci-gpu-hook itself, not Mesos' own program", _REMEDY, "OGH1807"
        )
    return names


def _link(path: str, target: str) -> Change:
    before = files.read_link(path)
    if before == "":
        raise EngineFileError(quoted(path), "is not a symbolic link", "name an empty directory as --output", "OGH1816")
    encoded = None if before is None else os.fsencode(before)
    return Change(path=path, before=encoded, after=os.fsencode(target), link=True)


def _is_front(path: str) -> bool:
    try:
        return read_front(path) is not None
    except OSError:
        return False


def _links(output: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(output) if entry.is_symlink())
    except FileNotFoundError:
        return []


def _paths(directory: str, names: list[str]) -> list[str]:
    return [os.path.join(directory, name) for name in names]


def _target(path: str) -> bytes:
    return os.fsencode(os.readlink(path))
