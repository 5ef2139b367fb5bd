"""Runs the checks one after the other. A check that fails is a finding, and the others run all the same."""

from __future__ import annotations

from importlib import import_module

from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, WARNING, Finding, Host
from oci_gpu_hook.base.errors import HookError, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final


# Each is a module of this package with check(host), which yields Findings. Causes come before effects.
CHECKS: Final = (
    "configuration",
    "kernel",
    "driver",
    "nodes",
    "gpus",
    "other_vendors",
    "cgroups",
    "confinement",
    "executables",
    "resident",
    "engines",
    "cdi",
    "kubernetes",
    "state_directory",
    "remains",
)


# These checks depend on the configuration: after an error in it, they would be about another host than is meant.
_BY_CONFIGURATION: Final = frozenset(
    ("driver", "nodes", "gpus", "other_vendors", "cdi", "kubernetes", "state_directory", "remains", "trial")
)


def host(config_path: str) -> Host:
    """Return this host with its configuration and inventory, or with the reasons why these cannot be read."""
    from oci_gpu_hook.base.config import load as configs
    from oci_gpu_hook.devices.nvidia import snapshot

    config, config_trouble = configs.load_or_defaults(config_path, keep=False)
    config = configs.of_this_user(config)
    if config_trouble:
        return Host(config=config, config_path=config_path, config_trouble=config_trouble)
    try:
        inventory = snapshot.load(config, detailed=True, refresh=True, keep=False)
    except HookError as error:
        return Host(config=config, config_path=config_path, trouble=error)
    return Host(config=config, config_path=config_path, inventory=inventory)


def examine(looked_at: Host, begins: Callable[[str], None] = lambda _name: None) -> Iterator[Finding]:
    """Yield the findings of all checks; `begins` is called with the name of each check before it runs."""
    for name in CHECKS:
        begins(name)
        yield from guarded(name, import_module(f"oci_gpu_hook.admin.doctor.{name}").check, looked_at)


def guarded(name: str, check: Callable[[Host], Iterator[Finding]], looked_at: Host) -> Iterator[Finding]:
    """Yield the findings of one check, or that it failed."""
    if looked_at.config_trouble and name in _BY_CONFIGURATION:
        return
    try:
        yield from check(looked_at)
    except HookError as error:
        yield Finding(check=name, severity=ERROR, what=error.what, why=error.why, remedy=error.remedy)
    except PermissionError as error:
        what = f"cannot look at {quoted(error.filename)}"
        yield Finding(check=name, severity=NOTE, what=what, why=reason(error), remedy="run this as root")
    except Exception as error:  # noqa: BLE001  a bug in one check must not hide what the others find
        why = reason(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        remedy = "please report it with the output of `oci-gpu doctor --json`"
        yield Finding(check=name, severity=WARNING, what=f"the check of {name} failed", why=why, remedy=remedy)
