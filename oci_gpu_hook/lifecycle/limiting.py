"""Holds a container to its parts of GPUs: its own MPS daemon, and the daemon's pipe directory in the container.

Imported for such containers only.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply.mps import place
from oci_gpu_hook.apply.mps.daemon import Daemon
from oci_gpu_hook.base import rootless
from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device, Limiter
    from oci_gpu_hook.devices.vendor import Inventory
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.plan.plan import Plan
    from oci_gpu_hook.request.model import Request

_OPTIONS: Final = ("ro", "nosuid", "nodev", "noexec", "bind", "private")
_VARIABLE: Final = "CUDA_MPS_PIPE_DIRECTORY"
_OR_NONE: Final = 'or set [sharing] enforce = "none" in config.toml, which reserves parts without enforcing them'


def limiter(container: Container, request: Request, inventory: Inventory, devices: Sequence[Device]) -> Limiter:
    """Return what holds the container to its parts. Raises InvalidInput, DriverError where nothing can."""
    if not rootless.is_hosts_root():
        why = "only root can start the MPS daemon that limits a container to it"
        raise InvalidInput("a part of a GPU", why, f"use an engine that runs as root, {_OR_NONE}", "OGH1216")
    if container.uid_mappings:
        why = "is asked for by a container with a user namespace, whose programs MPS does not serve"
        raise InvalidInput("a part of a GPU", why, f"start it without a user namespace, {_OR_NONE}", "OGH1216")
    return vendors.of(request.kind).limiter(request, inventory, devices)


def begin(held: Limiter, container: Container, config: Config) -> Daemon:
    """Begin to bring the container's daemon up. Raises HookError."""
    return Daemon(config.state_dir, container.pid, held)


def added(made: Plan, held: Limiter, container: Container, config: Config) -> Plan:
    """Return the plan with the daemon's pipe directory instead of any other that it has for that place."""
    warnings = [*made.warnings]
    others = [mount for mount in made.edits.mounts if mount.container_path == held.pipe]
    if others:
        text = "NVIDIA_MPS is not read: the container asked for a part of a GPU, which has its own MPS daemon"
        warnings.append(text)
    said = [entry.partition("=")[2] for entry in container.env if entry.startswith(f"{_VARIABLE}=")]
    if said and os.path.normpath(said[-1]) != held.pipe:
        text = f"{_VARIABLE}={quoted(said[-1])} keeps the container's programs from the MPS daemon that limits them"
        warnings.append(f"{text}; remove the variable")
    source = place.pipe_of(config.state_dir, place.name_of(container.pid))
    mount = Mount(host_path=source, container_path=held.pipe, options=_OPTIONS, directory=True)
    kept = [each for each in made.edits.mounts if each not in others]
    return made.replace(edits=made.edits.replace(mounts=(*kept, mount)), warnings=tuple(warnings))
