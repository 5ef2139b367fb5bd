"""Device access on cgroup v1: a list of allowed devices, which is changed by writing rules to it.

Documentation/admin-guide/cgroup-v1/devices.rst. A cgroup can allow only what all its ancestors allow.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.base.errors import ApplyError, quoted, reason
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.devices.edits import shown, type_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.apply.device_access.model import Change, DeviceCgroup
    from oci_gpu_hook.devices.edits import Numbers as Node
    from oci_gpu_hook.oci.container import DeviceRule

_READ_WRITE: Final = frozenset("rw")
_NONE: Final[frozenset[str]] = frozenset()


class Refused:
    """A rule that was taken out of a cgroup's list."""

    def __init__(self, directory: int, rule: str) -> None:
        self._directory = directory
        self._rule = rule

    def undo(self) -> None:
        """Add the rule again."""
        _write(self._directory, "devices.allow", self._rule)

    def close(self) -> None:
        """Nothing is held."""


class Allowed:
    """A rule that was added to a cgroup's list."""

    def __init__(self, directory: int, rule: str) -> None:
        self._directory = directory
        self._rule = rule

    def undo(self) -> None:
        """Remove the rule again."""
        _write(self._directory, "devices.deny", self._rule)

    def close(self) -> None:
        """Nothing is held."""


def allow(cgroup: DeviceCgroup, nodes: Sequence[Node], _rules: Sequence[DeviceRule], changes: list[Change]) -> None:
    """Permit the container's cgroups, from the topmost down, to use `nodes`; add what was done to `changes`."""
    for directory in cgroup.levels:
        listed = _read_list(directory)
        missing = [(node, access) for node in nodes if (access := _missing(listed, *node))]
        if not missing:
            continue  # even if nothing may be changed
        allowing = os.open("devices.allow", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            for node, access in missing:
                _add(cgroup, allowing, node, access)
                changes.append(Allowed(directory, f"{_named(node)} {access}"))
        finally:
            os.close(allowing)


def refuse(cgroup: DeviceCgroup, nodes: Sequence[Node], _rules: Sequence[DeviceRule], changes: list[Change]) -> None:
    """Have the container's cgroups refuse to read and write `nodes`; `changes` records what was done.

    What a cgroup refuses, all below it refuse too. A rule for all devices of a driver, which other nodes may need,
    stays as it is: `allows` tells.
    """
    listed = _read_list(cgroup.levels[0])
    for node in nodes:
        access = "".join(sorted(listed.get(_named(node), _NONE) & _READ_WRITE))
        if access:
            rule = f"{_named(node)} {access}"
            _write(cgroup.levels[0], "devices.deny", rule)
            changes.append(Refused(cgroup.levels[0], rule))


def allows(cgroup: DeviceCgroup, major: int, minor: int, kind: str = "c") -> bool:
    """Tell whether the process's cgroup permits reading and writing the node."""
    return not _missing(_read_list(cgroup.levels[-1]), major, minor, kind)


def refused(cgroup: DeviceCgroup, nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return the nodes that the process's cgroup does not permit to be read and written."""
    listed = _read_list(cgroup.levels[-1])
    return tuple(node for node in nodes if _missing(listed, *node))


def _write(directory: int, name: str, rule: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, rule.encode("ascii"))
    finally:
        os.close(fd)


def _add(cgroup: DeviceCgroup, allowing: int, node: Node, access: str) -> None:
    rule = f"{_named(node)} {access}"
    try:
        os.write(allowing, rule.encode("ascii"))
    except OSError as error:
        refusing = _refusing_ancestor(cgroup, node) if error.errno == errno.EPERM else ""
        if not refusing:
            raise
        raise ApplyError(
            f"cannot give the container device {shown(node)}",
            f"the device cgroup {quoted(refusing)} above it does not allow that device",
            f"write {quoted(rule)} to the devices.allow file of that cgroup, or allow it the device",
            "OGH1505",
        ) from None


def _named(node: Node) -> str:
    """Return the device as a rule names it."""
    return f"{type_of(node)} {shown(node)}"


def _missing(listed: Mapping[str, frozenset[str]], major: int, minor: int, kind: str = "c") -> str:
    """Return the letters of `rw` that a rule for the node must add.

    A single rule must permit all that an open requests (security/device_cgroup.c, match_exception), so a read-only rule
    and a write-only rule with different wildcards do not add up. A cgroup in its default mode lists `a *:* rwm`, and
    not what it denies.
    """
    name = f"{kind} {major}:{minor}"
    for named in (name, f"{kind} {major}:*", f"{kind} *:{minor}", f"{kind} *:*", "a *:*"):
        if listed.get(named, _NONE) >= _READ_WRITE:
            return ""
    return "".join(letter for letter in "rw" if letter not in listed.get(name, _NONE))


def _read_list(directory: int) -> dict[str, frozenset[str]]:
    """Return the devices in devices.list, as `type major:minor` (`a`: any type, `*`: any number), and the access.

    A dict, since it is searched for each node and has about as many entries. The kernel has one entry for a pair of
    numbers (security/device_cgroup.c, dev_exception_add); a row that lacks a field permits nothing.
    """
    listed = {}
    for row in read_file("devices.list", dir_fd=directory).decode("ascii", "replace").split("\n"):
        fields = row.split(" ")
        if len(fields) == 3:
            listed[f"{fields[0]} {fields[1]}"] = frozenset(fields[2])
    return listed


def _refusing_ancestor(cgroup: DeviceCgroup, node: Node) -> str:
    """Return the path of the nearest ancestor that does not allow the node, "" if all do."""
    path = cgroup.own_path
    directory = os.dup(cgroup.levels[0])
    try:
        while path not in ("", "/"):
            above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory = above
            path = os.path.dirname(path)
            if _missing(_read_list(directory), *node):
                return path
    except OSError as error:
        return f"{path} ({reason(error)})"
    finally:
        os.close(directory)
    return ""
