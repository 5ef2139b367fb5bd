"""Ends the MPS daemons of containers: of one whose start failed, and of all that have ended, however they did."""

from __future__ import annotations

import os

from oci_gpu_hook.apply.mps import group, place
from oci_gpu_hook.base import limits, log
from oci_gpu_hook.base.errors import HookError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_UNITS: Final = "/run/systemd/transient"


def sweep(state_dir: str) -> None:
    """End the daemons of containers that have ended. Errors are only logged."""
    try:
        ended = [name for name in place.names(state_dir) if place.has_ended(name)]
    except (OSError, HookError) as error:
        log.warning("leftovers not removed", of="mps", reason=str(error))
        return
    for name in ended:
        end(state_dir, name)


def end(state_dir: str, name: str) -> None:
    """End a daemon, and remove its files. Errors are only logged; the next sweep tries again."""
    if os.path.lexists(f"{_UNITS}/{group.unit_of(name)}"):
        _stop(group.unit_of(name))
    if not group.end(name, limits.REMAINS_SECONDS):
        log.warning("leftovers not removed", of=name, reason="processes of its MPS daemon do not end")
        return
    try:
        place.remove(state_dir, name)
    except FileNotFoundError:
        return  # another process was faster
    except OSError as error:
        log.warning("leftovers not removed", of=name, reason=reason(error))


def is_alive(name: str) -> bool:
    """Tell whether a daemon lives."""
    return group.is_populated(name)


def _stop(unit: str) -> None:
    from oci_gpu_hook.apply.systemd import private_bus

    try:
        private_bus.stop(unit)
    except HookError as error:
        log.warning("leftovers not removed", of=unit, reason=str(error))
