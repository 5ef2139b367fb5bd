"""Reads how a unit is configured from the files that systemd reads, since asking systemd would need a message bus."""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

# The directories of units, in order of precedence (systemd.unit(5)).
_SEARCH_PATH: Final = (
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",  # the rest is for packages, which have no scopes: those are created at run time
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
_SCOPE_DIRECTORIES: Final = 5


def device_policy(unit: str, ignored: str, root: str = "/") -> bool:
    """Tell whether the unit's configuration restricts its devices, so that systemd rewrites the rules.

    ignored: the file name of drop-ins that do not count. `root` stands for the host's file system. Raises OSError.
    """
    policy = "auto"
    allowed = private = False
    for line in _settings(unit, ignored, root):
        key, _, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if key == "DevicePolicy":
            policy = value
        elif key == "DeviceAllow":
            allowed = value != ""  # an empty one cancels those before it
        elif key == "PrivateDevices":
            private = value.lower() in ("1", "yes", "y", "true", "t", "on")
    return allowed or private or policy in ("closed", "strict")


def allowed_devices(unit: str, ignored: str, root: str = "/") -> dict[str, str]:
    """Return the nodes that the unit's configuration allows, as written there, each with its access ("rwm").

    ignored: the file name of drop-ins that do not count. `root` stands for the host's file system. Raises OSError.
    """
    found: dict[str, str] = {}
    for line in _settings(unit, ignored, root):
        key, _, value = line.partition("=")
        if key.strip() == "DeviceAllow":
            node, _, access = value.strip().partition(" ")
            if node:
                found[node] = access or "rwm"
            else:
                found = {}
    return found


def lines(path: str) -> Iterable[str]:
    """Return the lines of a unit file or drop-in, none if there is no such file. Raises OSError.

    systemd ends lines only at these two characters (src/basic/fileio.c, read_line_full). A description, which engines
    write, may contain the others at which str.splitlines splits.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return ()
    try:
        return os.read(fd, limits.UNIT_FILE).decode("utf-8", "replace").replace("\r", "\n").split("\n")
    finally:
        os.close(fd)


def _settings(unit: str, ignored: str, root: str) -> Iterator[str]:
    """Yield the lines of the unit's configuration in systemd's order."""
    names = [unit]
    if "@" in unit:
        names.append(unit[: unit.index("@") + 1] + unit[unit.rindex(".") :])  # the template of an instance
    searched = _SEARCH_PATH[:_SCOPE_DIRECTORIES] if unit.endswith(".scope") else _SEARCH_PATH
    directories = [os.path.join(root, directory) for directory in searched]
    for name in names:
        fragment = next(filter(os.path.isfile, (f"{directory}/{name}" for directory in directories)), None)
        if fragment is not None:
            yield from lines(fragment)
            break
    drop_ins: dict[str, str] = {}
    for directory in [f"{directory}/{name}.d" for name in names for directory in directories]:
        for name in _listed(directory):
            if name.endswith(".conf") and name != ignored:
                drop_ins.setdefault(name, f"{directory}/{name}")
    for name in sorted(drop_ins):
        yield from lines(drop_ins[name])


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
