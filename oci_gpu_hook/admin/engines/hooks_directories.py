"""Reads an engine's configuration files: the directories of hooks (`hooks_dir`), and Podman's runtime.

Podman: containers.conf(5), containers-config(5) of Podman 6. CRI-O: crio.conf(5), crio.conf.d(5).
"""

from __future__ import annotations

import os
import tomllib  # noqa: TID253

from oci_gpu_hook.admin.engines import files
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.base.errors import one_line, quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Final

USUAL: Final = "/usr/share/containers/oci/hooks.d"
_SYSTEM: Final = ("/usr/share/containers", "/etc/containers")


class Directories(Record):
    """The directories from which an engine reads hooks. said_in: the file that says so, "" for the default."""

    paths: tuple[str, ...] = (USUAL,)
    said_in: str = ""


class Runtime(Record):
    """The name or path of Podman's configured runtime, "" for none. said_in: as in Directories."""

    value: str = ""
    said_in: str = ""


def podman_runtime(root: str) -> Runtime:
    """Return the configured runtime of root's Podman. Raises EngineFileError."""
    found = Runtime()
    for source in _of_containers(root, _SYSTEM, "rootful"):
        value = _value(_followed(root, source), ("engine", "runtime"))
        if type(value) is str:
            found = Runtime(value=value, said_in=source)
    return found


def of_podman(root: str) -> Directories:
    """Return the directories of root's Podman in the file system at `root`. Raises EngineFileError."""
    return _last_word(root, _of_containers(root, _SYSTEM, "rootful"), ("engine", "hooks_dir"))


def of_rootless_podman(root: str) -> Directories:
    """Return the directories of the Podman of users, including this process's user. Raises EngineFileError."""
    sources = list(_of_containers(root, _SYSTEM, "rootless"))
    if root == "/" and os.geteuid():
        own_drop_ins = f"containers.rootless.conf.d/{os.geteuid()}"
        sources += [path for base in _SYSTEM for path in _drop_ins(root, f"{base}/{own_drop_ins}")]
        own = os.environ.get("XDG_CONFIG_HOME") or f"{os.environ.get('HOME', '')}/.config"
        sources += _of_containers(root, (f"{own}/containers",), "")
    return _last_word(root, sources, ("engine", "hooks_dir"))


def of_crio(root: str) -> Directories:
    """Return the directories of CRI-O. Raises EngineFileError."""
    sources = ["/etc/crio/crio.conf", *_drop_ins(root, "/etc/crio/crio.conf.d")]
    return _last_word(root, sources, ("crio", "runtime", "hooks_dir"))


def _of_containers(root: str, bases: Sequence[str], whose: str) -> list[str]:
    """Return the containers.conf files in some directories, in ascending order of precedence."""
    found = [f"{base}/containers.conf" for base in bases]
    for base in bases:
        found += _drop_ins(root, f"{base}/containers.conf.d")
        if whose:
            found += _drop_ins(root, f"{base}/containers.{whose}.conf.d")
    return found


def _drop_ins(root: str, directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(os.path.join(root, directory.lstrip("/"))))
    except OSError:
        return []
    return [f"{directory}/{name}" for name in names if name.endswith(".conf")]


def _last_word(root: str, sources: Iterable[str], key: Sequence[str]) -> Directories:
    """Read the files in order. A list replaces earlier ones, unless {append = true} was set, which stays in force."""
    paths: list[str] = [USUAL]
    said_in = ""
    appends = False
    for source in sources:
        listed = _value(_followed(root, source), key)
        if type(listed) is not list:
            continue
        for item in listed:
            if type(item) is dict and type(item.get("append")) is bool:
                appends = item["append"]
        named = [item for item in listed if type(item) is str]
        if named or not appends:
            paths = [*(paths if appends else ()), *named]
            said_in = source
    return Directories(paths=tuple(dict.fromkeys(os.path.normpath(path) for path in paths)), said_in=said_in)


def _followed(root: str, source: str) -> str:
    """Return this process's path of a file. Links are followed, since distributions use them and nothing is written."""
    path = os.path.join(root, source.lstrip("/"))
    target = files.read_link(path) or ""
    if root != "/" and target.startswith("/"):
        return os.path.join(root, target.lstrip("/"))
    return os.path.realpath(path)


def _value(path: str, key: Sequence[str]) -> Any:
    """Return the value of a key in a TOML file, None if the file or the key is missing. Raises EngineFileError."""
    contents = files.read(path)
    if contents is None:
        return None
    try:
        found: Any = tomllib.loads(files.text_of(contents, path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        why = f"is not TOML: {one_line(str(error))}"
        raise EngineFileError(quoted(path), why, "correct it; the engine cannot read it either", "OGH1802") from None
    for name in key:
        found = found.get(name) if type(found) is dict else None
    return found
