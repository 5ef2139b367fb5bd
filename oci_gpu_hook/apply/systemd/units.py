"""Systemd units by their names and files: which of them a cgroup belongs to, which have a drop-in of this project's."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

NAME: Final = "50-oci-gpu-hook.conf"  # read after the 50-DeviceAllow.conf of set-property, which empties the list first
CONTROL: Final = ("run", "systemd", "system.control")
SECTIONS: Final = {".scope": "Scope", ".service": "Service"}
_NAME_CHARACTERS: Final = frozenset(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-_.\\@",  # systemd.unit(5); escapes are \xNN
)
_LONGEST_NAME: Final = 255


def unit_path(cgroup_path: str) -> str:
    """Return the path of the cgroup of the systemd unit that the cgroup belongs to, "" where it belongs to none.

    As systemd itself reads a path: slices come first, and what follows them is the unit. What is below the unit is not
    this systemd's, also where it is named like a unit (a systemd in the container makes `init.scope` there).
    """
    path = ""
    for component in cgroup_path.strip("/").split("/"):
        path += "/" + component
        if not component.endswith(".slice"):
            return path if is_name(unescaped(component)) else ""
    return ""


def is_name(name: str) -> bool:
    """Tell whether a name is that of a scope or service."""
    stem, suffix = os.path.splitext(name)
    return bool(stem) and suffix in SECTIONS and len(name) <= _LONGEST_NAME and _NAME_CHARACTERS.issuperset(name)


def unescaped(component: str) -> str:
    """Undo what systemd does to a unit's name that would clash with a file of the kernel (cg_escape): `_` before it."""
    return component.removeprefix("_")


def units(root: str = "/") -> tuple[str, ...]:
    """Return the units that have a drop-in of ours, sorted."""
    control = os.path.join(root, *CONTROL)
    try:
        names = os.listdir(control)
    except FileNotFoundError:
        return ()
    return tuple(sorted(n[:-2] for n in names if n.endswith(".d") and os.path.lexists(f"{control}/{n}/{NAME}")))


def ended_scopes(root: str = "/") -> tuple[str, ...]:
    """Return the scopes that have a drop-in of ours and are no more: systemd removes a scope's file with the scope."""
    transient = os.path.join(root, "run/systemd/transient")
    scopes = (unit for unit in units(root) if unit.endswith(".scope"))
    return tuple(scope for scope in scopes if not os.path.lexists(f"{transient}/{scope}"))
