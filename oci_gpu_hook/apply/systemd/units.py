"""Finds systemd units by their names and files: the unit of a cgroup, and the units with a drop-in of this project."""

from __future__ import annotations

import os

from oci_gpu_hook.devices.edits import shown, type_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.devices.edits import Numbers

NAME: Final = "50-oci-gpu-hook.conf"  # read after set-property's 50-DeviceAllow.conf, which clears the list
CONTROL: Final = ("run", "systemd", "system.control")
SECTIONS: Final = {".scope": "Scope", ".service": "Service"}
_NAME_CHARACTERS: Final = frozenset(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-_.\\@",  # systemd.unit(5); escapes are \xNN
)
_LONGEST_NAME: Final = 255


def device_path(node: Numbers) -> str:
    """Return a device as DeviceAllow= names it. systemd.resource-control(5)."""
    return f"/dev/{'block' if type_of(node) == 'b' else 'char'}/{shown(node)}"


def unit_path(cgroup_path: str) -> str:
    """Return the path of the unit's cgroup for a cgroup in a systemd unit, "" if it is in none.

    As in systemd, the unit is the component that follows the slices. Components below the unit do not belong to this
    systemd, even if they are named like units (a systemd in the container creates `init.scope` there).
    """
    path = ""
    for component in cgroup_path.strip("/").split("/"):
        path += "/" + component
        if not component.endswith(".slice"):
            return path if is_name(unescaped(component)) else ""
    return ""


def is_name(name: str) -> bool:
    """Tell whether a name is the name of a scope or service."""
    stem, suffix = os.path.splitext(name)
    return bool(stem) and suffix in SECTIONS and len(name) <= _LONGEST_NAME and _NAME_CHARACTERS.issuperset(name)


def unescaped(component: str) -> str:
    """Remove the `_` that systemd puts before a unit's name that would clash with a file of the kernel (cg_escape)."""
    return component.removeprefix("_")


def units(root: str = "/") -> tuple[str, ...]:
    """Return the units that have a drop-in of this project, sorted."""
    control = os.path.join(root, *CONTROL)
    try:
        names = os.listdir(control)
    except FileNotFoundError:
        return ()
    return tuple(sorted(n[:-2] for n in names if n.endswith(".d") and os.path.lexists(f"{control}/{n}/{NAME}")))


def ended_scopes(root: str = "/") -> tuple[str, ...]:
    """Return ended scopes that have a drop-in of this project; systemd removes a scope's file with the scope."""
    transient = os.path.join(root, "run/systemd/transient")
    scopes = (unit for unit in units(root) if unit.endswith(".scope"))
    return tuple(scope for scope in scopes if not os.path.lexists(f"{transient}/{scope}"))
