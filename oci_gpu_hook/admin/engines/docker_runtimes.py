"""This project's runtime in daemon.json: under its own name, under a second one on request, and as the default."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.engines import docker_swarm, files, json_text, programs
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.model import BACKUP_SUFFIX, RUNTIME_NAME
from oci_gpu_hook.base.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from oci_gpu_hook.admin.engines.model import Target

NVIDIAS: Final = "nvidia"
_NVIDIAS_RUNTIME: Final = "nvidia-container-runtime"
_EXECUTABLE: Final = "oci-gpu-runtime"
_RESERVED: Final = ("runc", RUNTIME_NAME)
_DEFAULT: Final = ("default-runtime",)


def load(text: str, path: str) -> dict[str, Any]:
    """Parse a daemon.json. Raises EngineFileError."""
    try:
        return json_text.load(text)
    except (ValueError, RecursionError) as error:
        why = f"is not what dockerd reads: {error}"
        raise EngineFileError(quoted(path), why, "correct it, or move it away for a new one", "OGH1805") from None


def ours(daemon: dict[str, Any]) -> dict[str, str]:
    """Return the paths of this project's runtimes, by name."""
    runtimes = daemon.get("runtimes")
    if type(runtimes) is not dict:
        return {}
    paths = {name: each.get("path") if type(each) is dict else None for name, each in runtimes.items()}
    return {name: path for name, path in paths.items() if type(path) is str and os.path.basename(path) == _EXECUTABLE}


def check(daemon: dict[str, Any], target: Target, path: str) -> None:
    """Raise EngineFileError if the requested settings cannot be added to a daemon.json."""
    if not target.runtime:
        raise EngineFileError(
            _EXECUTABLE, "found neither runc nor crun on PATH", "install runc (apt install runc)", "OGH1803"
        )
    runtimes = daemon.get("runtimes", {})
    if type(runtimes) is not dict:
        raise EngineFileError(
            quoted(path), "has `runtimes` that are not a JSON object", "correct it as dockerd's manual says", "OGH1805"
        )
    if target.also_as:
        _check_second_name(target)
    for name in _names(target):
        if name in runtimes and name not in ours(daemon):
            why = f"has another runtime of the name {name}: {quoted(runtimes[name])}"
            raise EngineFileError(quoted(path), why, "rename or remove that runtime first", "OGH1811")
    default = daemon.get("default-runtime", "runc")
    if target.default and default not in ("runc", *_names(target)):
        why = f"has another default runtime: {quoted(default)}"
        raise EngineFileError(
            quoted(path), why, "remove default-runtime from it first, or install without --default", "OGH1811"
        )


def lacks(daemon: dict[str, Any], target: Target) -> bool:
    """Tell whether a daemon.json lacks any of the requested settings."""
    there = ours(daemon)
    has_names = all(there.get(name) == target.runtime for name in _names(target))
    return not has_names or (target.default and daemon.get("default-runtime") != RUNTIME_NAME)


def installed(daemon: dict[str, Any], target: Target) -> dict[str, str]:
    """Return those of `ours` that `oci-gpu install` has made; an operator may have made others by hand.

    Without a record they are known by their form.
    """
    if target.recorded:
        names = (RUNTIME_NAME, target.recorded.also_as)
        return {name: path for name, path in ours(daemon).items() if name in names}
    return {name: path for name, path in ours(daemon).items() if daemon["runtimes"][name] == {"path": path}}


def has_part(daemon: dict[str, Any], target: Target) -> bool:
    """Tell whether a daemon.json has any setting of this project."""
    return bool(installed(daemon, target)) or daemon.get("default-runtime") == RUNTIME_NAME


def with_runtimes(text: str, target: Target) -> str:
    """Return the text of a daemon.json with the requested settings added."""
    return _edited(text, dict.fromkeys(_names(target), target.runtime), default=target.default)


def original(path: str, text: str, daemon: dict[str, Any], target: Target) -> tuple[bytes | None, bool]:
    """Return the file's contents before the installation, None if there was none, and whether it is unchanged since."""
    backup = files.read(path + BACKUP_SUFFIX)
    start = files.text_of(backup or b"", path)
    there = installed(daemon, target)
    resources = daemon.get(docker_swarm.RESOURCES)
    kinds = docker_swarm.kinds_of(daemon)
    try:
        edited = [_edited(start, there, default=default) for default in (False, True)]
        if kinds:
            edited = [json_text.with_member(each, (docker_swarm.RESOURCES,), resources) for each in edited]
        if text in edited:
            return backup, True
    except ValueError:
        pass  # not a valid backup
    text = docker_swarm.without_resources(text, kinds)
    for name in there:
        text = json_text.without_member(text, ("runtimes", name))
    if daemon.get("default-runtime") in (RUNTIME_NAME, *there):  # dockerd does not start with one that is not there
        text = json_text.without_member(text, _DEFAULT)
    return text.encode(), False


def _names(target: Target) -> Sequence[str]:
    return (RUNTIME_NAME, target.also_as) if target.also_as else (RUNTIME_NAME,)


def _check_second_name(target: Target) -> None:
    name = target.also_as
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii() or name in _RESERVED:
        raise EngineFileError(
            f"--also-as {quoted(name)}", "cannot be the runtime's second name", f"try {NVIDIAS}", "OGH1814"
        )
    theirs = programs.find(target.root, _NVIDIAS_RUNTIME)
    if name == NVIDIAS and theirs:
        why = f"NVIDIA's own runtime is installed, {theirs}, and serves that name"
        remedy = f"use --runtime {RUNTIME_NAME}, or remove NVIDIA's container toolkit first"
        raise EngineFileError(f"--also-as {name}", why, remedy, "OGH1811")


def _edited(text: str, runtimes: dict[str, str], *, default: bool) -> str:
    for name, runtime in runtimes.items():
        text = json_text.with_member(text, ("runtimes", name), {"path": runtime})
    return json_text.with_member(text, _DEFAULT, RUNTIME_NAME) if default else text
