"""A drop-in for the container's systemd unit, so that a reload of systemd does not take the GPUs away.

Whenever systemd reloads (every package upgrade makes it) it rewrites the device rules of units that have a device
policy, from what it knows. A drop-in in /run/systemd/system.control is how `systemctl set-property --runtime` makes
things known to it; it is read at the reload, with no word to systemd before. systemd.resource-control(5).
"""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.errors import ApplyError, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    Node = tuple[int, int]  # major, minor of a character device

NAME: Final = "50-oci-gpu-hook.conf"  # read after the 50-DeviceAllow.conf of set-property, which empties the list first
_CONTROL: Final = ("run", "systemd", "system.control")
# Where units are configured, first come first (systemd.unit(5)).
_SEARCH_PATH: Final = (
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",  # from here on packages', which know no scope: those are made at run time
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
_SCOPE_DIRECTORIES: Final = 5
_SECTIONS: Final = {".scope": "Scope", ".service": "Service"}
_NAME_CHARACTERS: Final = frozenset(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-_.\\@",  # systemd.unit(5); escapes are \xNN
)
_LONGEST_NAME: Final = 255
_LARGEST_FILE: Final = 65536
_REMEDY: Final = (
    "systemd must own /run/systemd/system.control and be able to write there; without it a reload takes the GPUs"
)


def unit_path(cgroup_path: str) -> str:
    """Return the path of the cgroup of the systemd unit that the cgroup belongs to, "" where it belongs to none.

    As systemd itself reads a path: slices come first, and what follows them is the unit. What is below the unit is not
    this systemd's, also where it is named like a unit (a systemd in the container makes `init.scope` there).
    """
    path = ""
    for component in cgroup_path.strip("/").split("/"):
        path += "/" + component
        if not component.endswith(".slice"):
            return path if _is_unit_name(_unescaped(component)) else ""
    return ""


def drop_in(cgroup_path: str, nodes: Sequence[Node], root: str = "/") -> str | None:
    """Leave a drop-in that allows `nodes` for the cgroup's unit; return the unit, to be given to `remove`.

    None, and nothing is written, where systemd leaves the devices of the cgroup alone: systemd does not run, the
    cgroup is of none of its units, the unit has no device policy, or it is below a user's own manager, which has no
    power over devices (src/core/bpf-devices.c, bpf_devices_supported, asks for root). A DeviceAllow= for a unit without
    a policy would be the first to restrict it.
    `root` stands for the host's file system. Raises ApplyError.
    """
    unit = _unescaped(os.path.basename(unit_path(cgroup_path)))
    if not unit or (unit.startswith("user@") and unit.endswith(".service")):
        return None
    if not os.path.isdir(os.path.join(root, "run/systemd/system")):  # sd_booted(3)
        return None
    if not _has_device_policy(unit, root):
        return None
    section = _SECTIONS[unit[unit.rindex(".") :]]
    lines = [f"[{section}]", *(f"DeviceAllow=/dev/char/{major}:{minor} rw" for major, minor in nodes), ""]
    try:
        directory = _open_directory(root, (*_CONTROL, f"{unit}.d"), make=len(_CONTROL) - 1)
        try:
            _write(directory, "\n".join(lines).encode("ascii"))
        finally:
            os.close(directory)
    except OSError as error:
        raise ApplyError(f"cannot write a drop-in for {quoted(unit)}", reason(error), _REMEDY) from None
    return unit


def remove(unit: str, root: str = "/") -> None:
    """Remove the unit's drop-in, and its directory if that was all it held. Raises ApplyError."""
    if not _is_unit_name(unit):
        raise ApplyError("cannot remove a drop-in", f"{quoted(unit)} is no name of a unit", "name a scope or service")
    try:
        control = _open_directory(root, _CONTROL)
        try:
            _remove(control, f"{unit}.d")
        finally:
            os.close(control)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ApplyError(f"cannot remove the drop-in of {quoted(unit)}", reason(error), _REMEDY) from None


def units(root: str = "/") -> tuple[str, ...]:
    """Return the units that have a drop-in of ours, sorted: what reconciliation compares with the leases."""
    control = os.path.join(root, *_CONTROL)
    try:
        names = os.listdir(control)
    except FileNotFoundError:
        return ()
    return tuple(sorted(n[:-2] for n in names if n.endswith(".d") and os.path.lexists(f"{control}/{n}/{NAME}")))


def _is_unit_name(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return bool(stem) and suffix in _SECTIONS and len(name) <= _LONGEST_NAME and _NAME_CHARACTERS.issuperset(name)


def _unescaped(component: str) -> str:
    """Undo what systemd does to a unit's name that would clash with a file of the kernel (cg_escape): `_` before it."""
    return component.removeprefix("_")


def _has_device_policy(unit: str, root: str) -> bool:
    """Tell whether the unit's configuration restricts its devices, so that systemd rewrites their rules."""
    policy = "auto"
    allowed = private = False
    for line in _settings(unit, root):
        key, _, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if key == "DevicePolicy":
            policy = value
        elif key == "DeviceAllow":
            allowed = value != ""  # an empty one takes back those before it
        elif key == "PrivateDevices":
            private = value.lower() in ("1", "yes", "y", "true", "t", "on")
    return allowed or private or policy in ("closed", "strict")


def _settings(unit: str, root: str) -> Iterator[str]:
    """Yield the lines of the unit's configuration in the order in which systemd reads them, our own left out."""
    names = [unit]
    if "@" in unit:
        names.append(unit[: unit.index("@") + 1] + unit[unit.rindex(".") :])  # the template of an instance
    searched = _SEARCH_PATH[:_SCOPE_DIRECTORIES] if unit.endswith(".scope") else _SEARCH_PATH
    directories = [os.path.join(root, directory) for directory in searched]
    for name in names:
        fragment = next(filter(os.path.isfile, (f"{directory}/{name}" for directory in directories)), None)
        if fragment is not None:
            yield from _lines(fragment)
            break
    drop_ins: dict[str, str] = {}
    for directory in [f"{directory}/{name}.d" for name in names for directory in directories]:
        for name in _listed(directory):
            if name.endswith(".conf") and name != NAME:
                drop_ins.setdefault(name, f"{directory}/{name}")
    for name in sorted(drop_ins):
        yield from _lines(drop_ins[name])


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _lines(path: str) -> Iterable[str]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return ()
    try:
        return os.read(fd, _LARGEST_FILE).decode("utf-8", "replace").splitlines()
    finally:
        os.close(fd)


def _open_directory(root: str, components: Sequence[str], make: int | None = None) -> int:
    """Open a directory below `root` component by component; those from index `make` on are made where missing.

    A component that is a link, or that others than root could have put there, is refused: what is written here is
    obeyed by systemd.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    directory = os.open(root, flags)
    for index, component in enumerate(components):
        try:
            if make is not None and index >= make:
                _make(directory, component)
            below = os.open(component, flags | os.O_NOFOLLOW, dir_fd=directory)
        finally:
            os.close(directory)
        directory = below
        status = os.fstat(directory)
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            os.close(directory)
            path = "/" + "/".join(components[: index + 1])
            raise ApplyError(f"will not write to {quoted(path)}", "others than root can write there", _REMEDY)
    return directory


def _make(directory: int, name: str) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=directory)
    except FileExistsError:
        pass


def _write(directory: int, contents: bytes) -> None:
    """Put the file in its place in one step; until then its name begins with a dot, which systemd passes over."""
    temporary = f".{NAME}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o644, dir_fd=directory)
    try:
        os.write(fd, contents)
    finally:
        os.close(fd)
    os.rename(temporary, NAME, src_dir_fd=directory, dst_dir_fd=directory)


def _remove(control: int, name: str) -> None:
    directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=control)
    try:
        os.unlink(NAME, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        os.rmdir(name, dir_fd=control)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
