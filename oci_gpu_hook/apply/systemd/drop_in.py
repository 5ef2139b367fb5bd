"""Writes a drop-in for the container's systemd unit, so that a reload of systemd does not take the GPUs away.

Whenever systemd reloads (every package upgrade causes that) it rewrites the device rules of units with a device policy
from its own knowledge. It reads drop-ins in /run/systemd/system.control, where `systemctl set-property --runtime`
writes them, at each reload. systemd.resource-control(5).
"""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.apply.systemd.unit_settings import allowed_devices, device_policy, lines
from oci_gpu_hook.apply.systemd.units import CONTROL, NAME, SECTIONS, device_path, is_name, unescaped, unit_path
from oci_gpu_hook.base.errors import ApplyError, quoted, reason
from oci_gpu_hook.base.files import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.devices.edits import Numbers as Node

_REMEDY: Final = (
    "systemd must own /run/systemd/system.control and be able to write there; without it a reload takes the GPUs"
)


def restricted_unit(cgroup_path: str, root: str = "/") -> str:
    """Return the systemd unit of the cgroup if systemd rewrites its device rules, otherwise "".

    systemd does not touch device rules if it is not running, if the cgroup does not belong to a unit, if the unit has
    no device policy, or if the unit belongs to a user's manager, which cannot control devices (src/core/bpf-devices.c,
    bpf_devices_supported, requires root). root: of the host's file system. Raises ApplyError.
    """
    unit = unescaped(os.path.basename(unit_path(cgroup_path)))
    if not unit or (unit.startswith("user@") and unit.endswith(".service")):
        return ""
    if not os.path.isdir(os.path.join(root, "run/systemd/system")):  # sd_booted(3)
        return ""
    try:
        return unit if device_policy(unit, NAME, root) else ""
    except OSError as error:
        why = f"{quoted(error.filename)}: {reason(error)}"
        raise ApplyError(
            f"cannot read how systemd configures {quoted(unit)}", why, "correct that file", "OGH1509"
        ) from None


def drop_in(unit: str, nodes: Sequence[Node], root: str = "/") -> None:
    """Write a drop-in that allows `nodes`, for a unit that `restricted_unit` has returned. Raises ApplyError.

    In a unit without a device policy a DeviceAllow= would introduce a restriction.
    """
    section = SECTIONS[unit[unit.rindex(".") :]]
    settings = [f"[{section}]", *(f"DeviceAllow={device_path(node)} rw" for node in nodes), ""]
    try:
        directory = _open_directory(root, (*CONTROL, f"{unit}.d"), make=len(CONTROL) - 1)
        try:
            _write(directory, "\n".join(settings).encode("ascii"))
        finally:
            os.close(directory)
    except OSError as error:
        raise ApplyError(f"cannot write a drop-in for {quoted(unit)}", reason(error), _REMEDY, "OGH1509") from None


def others(unit: str, root: str = "/") -> dict[str, str]:
    """Return the devices that the unit may use without this project's drop-in: access by node. Raises ApplyError."""
    try:
        return allowed_devices(unit, NAME, root)
    except OSError as error:
        why = f"{quoted(error.filename)}: {reason(error)}"
        raise ApplyError(
            f"cannot read how systemd configures {quoted(unit)}", why, "correct that file", "OGH1509"
        ) from None


def is_known(unit: str, nodes: Iterable[Node], root: str = "/") -> bool:
    """Tell whether systemd knows, for example from the runtime, that a restricted unit may use all of `nodes`.

    systemd records what it was told. This project's drop-in does not count, since it may not have been read yet.
    """
    try:
        allowed = allowed_devices(unit, NAME, root)
    except OSError:
        return False
    return all({"r", "w"}.issubset(allowed.get(device_path(node), "")) for node in nodes)


def exists(unit: str, root: str = "/") -> bool:
    """Tell whether the unit has a drop-in of this project."""
    return os.path.lexists(os.path.join(root, *CONTROL, f"{unit}.d", NAME))


def covers(unit: str, nodes: Iterable[Node], root: str = "/") -> bool:
    """Tell whether the unit's drop-in exists and allows `nodes`."""
    found = frozenset(lines(os.path.join(root, *CONTROL, f"{unit}.d", NAME)))
    return all(f"DeviceAllow={device_path(node)} rw" in found for node in nodes)


def remove(unit: str, root: str = "/") -> None:
    """Remove the unit's drop-in, and its directory if that is then empty. Raises ApplyError."""
    if not is_name(unit):
        raise ApplyError(
            "cannot remove a drop-in", f"{quoted(unit)} is not a name of a unit", "name a scope or service", "OGH1509"
        )
    try:
        control = _open_directory(root, CONTROL)
        try:
            _remove(control, f"{unit}.d")
        finally:
            os.close(control)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ApplyError(f"cannot remove the drop-in of {quoted(unit)}", reason(error), _REMEDY, "OGH1509") from None


def _open_directory(root: str, components: Sequence[str], make: int | None = None) -> int:
    """Open a directory below `root`, component by component; create missing ones from index `make` on.

    A component that is a link, or that users other than root could have created, is refused, because systemd obeys what
    is written here.
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
            raise ApplyError(
                f"will not write to {quoted(path)}", "users other than root can write there", _REMEDY, "OGH1509"
            )
    return directory


def _make(directory: int, name: str) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=directory)
    except FileExistsError:
        pass


def _write(directory: int, contents: bytes) -> None:
    """Write the file atomically; its temporary name begins with a dot, so that systemd ignores it."""
    replace_file(NAME, contents, mode=0o644, dir_fd=directory, temporary=f".{NAME}.{os.getpid()}")


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
