"""Which GPUs Slurm has given the step that this process belongs to.

Slurm has chosen before a container is made. Where it constrains devices (cgroup.conf, ConstrainDevices=yes) the step's
device cgroup says which: what this process may open is what the step was given, and nobody in the step can change it.
Where it does not, the step's variables say it; they number GPUs in the order of gres.conf, which `oci-gpu install
slurm` writes in the order of their indices. A Slurm that says it in neither way has given none: a job must not get GPUs
that it has not asked for.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import HookError, InvalidInput, quoted
from oci_gpu_hook.base.files import read_text
from oci_gpu_hook.devices import presence, vendors
from oci_gpu_hook.request.model import IN_THE_BUNDLE, Request
from oci_gpu_hook.request.values import items
from oci_gpu_hook.request.vendors import BY_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device

# Of a step, else of the batch script or the shell of `salloc`: set since Slurm 23.02 before config.json is written.
VARIABLES: Final = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
CGROUP_CONF: Final = "cgroup.conf"
# Where a node has its configuration: its own, or a copy of the controller's ("configless").
DIRECTORIES: Final = ("/etc/slurm", "/run/slurm/conf")
_YES: Final = ("yes", "up", "true", "1")  # slurm.conf(5), as its parser reads a boolean


class _Openable:
    """The host's nodes that this process may open, asked one by one. The device cgroup has its say in access(2)."""

    def __contains__(self, path: object) -> bool:
        return os.access(str(path), os.R_OK)


def given(variables: Mapping[str, str], config: Config) -> tuple[Device, ...]:
    """Return the devices that Slurm has given. variables: those of the container, as Slurm has written them.

    Raises InvalidInput for variables that name what there is not, HookError where a driver that is needed is not there.
    """
    found: tuple[Device, ...] = ()
    for kind in vendors.KINDS:
        found += _of_kind(kind, variables, config)
    return found


def check_others(variables: Mapping[str, str], devices: Sequence[Device], config: Config) -> None:
    """Raise InvalidInput for a container that asks by another vendor's variable, for GPUs that this host has.

    What Slurm has given of them is not known here. Beside NVIDIA's GPUs, and on hosts without such GPUs, the variable
    may be one that an image sets for hosts of either vendor.
    """
    for name, (kind, words) in BY_VARIABLE.items():
        if name not in variables or kind not in presence.with_driver(config):
            continue
        said = words().said(variables, config)
        if said.declines or not said.items:
            continue
        what = f"{name}={quoted(variables[name])}"
        if devices:
            log.warning(
                "warning", text=f"{what} is not served: of {kind} Slurm's choice is not known, and nothing is given"
            )
            continue
        why = f"asks for {kind}, and in a job only NVIDIA's GPUs are given: which others Slurm has chosen is not known"
        remedy = "have the job start it by podman run, which Slurm's device cgroup confines, or unset the variable"
        raise InvalidInput(what, why, remedy, "OGH1714")


def _of_kind(kind: str, variables: Mapping[str, str], config: Config) -> tuple[Device, ...]:
    vendor = vendors.of(kind)
    whatever = Request(kind=kind, devices=("all",), driver_capabilities=(), source=IN_THE_BUNDLE)
    try:
        inventory = vendor.snapshot(whatever, config).inventory
    except HookError as error:
        if any(variables.get(name) for name in VARIABLES):
            raise
        log.warning("no devices are known", reason=str(error))
        return ()
    devices = vendor.devices(inventory, config)
    single = tuple(device for device in devices if device.is_single)  # as gres.conf has them, in its order
    openable = {device.uuid for device in vendor.of_nodes(devices, inventory, (), _Openable())}
    allowed = tuple(device for device in single if device.uuid in openable)
    if len(allowed) < len(single) or is_constrained():
        return allowed
    named = _named(variables, single)
    if named is None:
        if single:
            what = "Slurm does not say which GPUs it has given, so the container gets none"
            log.warning("warning", text=f"{what}: set ConstrainDevices=yes in cgroup.conf")
        return ()
    return named


def _named(variables: Mapping[str, str], devices: Sequence[Device]) -> tuple[Device, ...] | None:
    """Return the devices that the step's variables name, None where they say nothing. Raises InvalidInput."""
    for name in VARIABLES:
        if name not in variables:
            continue
        what = f"{name}={quoted(variables[name])}"
        places = []
        for item in items(variables[name]):
            if not (item.isdecimal() and item.isascii() and len(item) <= 4 and int(item) < len(devices)):
                why = f"{quoted(item)} is not a device of this host, which has {len(devices)}"
                raise InvalidInput(what, why, "compare gres.conf with `oci-gpu info`", "OGH1711")
            places.append(int(item))
        return tuple(devices[place] for place in sorted({*places}))
    return None


def is_constrained(directories: Sequence[str] = ()) -> bool:
    """Tell whether this node's cgroup.conf has Slurm constrain devices."""
    named = os.path.dirname(os.environ.get("SLURM_CONF", ""))
    for directory in directories or ((named,) if named.startswith("/") else ()) + DIRECTORIES:
        text = read_text(os.path.join(directory, CGROUP_CONF))
        if text is not None:
            return constrains(text)
    return False


def constrains(text: str) -> bool:
    """Tell whether a cgroup.conf has the line; the last one of it counts."""
    answer = False
    for line in text.split("\n"):
        for word in line.partition("#")[0].replace(" =", "=").replace("= ", "=").split():
            name, _, value = word.partition("=")
            if name.lower() == "constraindevices":
                answer = value.strip('"').lower() in _YES
    return answer
