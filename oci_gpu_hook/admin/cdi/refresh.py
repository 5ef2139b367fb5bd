"""Keeps the specification files of this host up to date: one file for each class, replaced only if it differs."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.cdi import generate
from oci_gpu_hook.base.errors import HookError, quoted, reason
from oci_gpu_hook.base.files import replace_file
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.cdi.spec_files import directories, writing
from oci_gpu_hook.devices.nvidia.cdi_classes import CLASSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.spec_files.model import Specification
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.devices.nvidia.specification import Form

# `gpu` includes MIG devices; `mig` is for people who want a file with MIG devices only.
_KEPT: Final = tuple(name for name in CLASSES if name != "mig")
_MODE: Final = 0o644
_OURS: Final = "oci-gpu-hook-"  # followed by the kind of devices


class Outcome(Record):
    """What happened to a file: "written", "unchanged", "removed" (its class has no devices now)."""

    path: str
    outcome: str
    devices: int = 0


def refresh(
    inventory: Inventory, config: Config, directory: str, capabilities: Sequence[str], form: Form
) -> list[Outcome]:
    """Write the files of all classes of which the host has devices, and remove this project's files of other classes.

    Raises HookError if the directory cannot be written, or if another tool's file there has the same names: then
    engines would give neither device.
    """
    made = [generate.specification_of(inventory, config, name, capabilities, form) for name in _KEPT]
    return _kept(directory, made)


def refresh_kind(kind: str, config: Config, directory: str, names: str) -> list[Outcome]:
    """Do the same for one kind of devices that the kernel tells of. names: "index", "uuid" or "both"."""
    return _kept(directory, [generate.seen_specification_of(kind, config, names)])


def _kept(directory: str, made: Sequence[Specification]) -> list[Outcome]:
    _refuse_conflicts(directory, [specification for specification in made if specification.devices])
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)  # noqa: TID251  a directory of the host's
        return [outcome for specification in made if (outcome := _keep(directory, specification))]
    except OSError as error:
        remedy = "run it as root, or name another directory with --output"
        raise HookError(
            f"directory {quoted(directory)}", f"cannot be written: {reason(error)}", remedy, "OGH1802"
        ) from None


def path_of(directory: str, kind: str) -> str:
    """Return the path of this project's file for a kind of devices."""
    return os.path.join(directory, f"{_OURS}{kind.replace('/', '-')}.yaml")


def others_of(registry: directories.Registry, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the files of other tools that have devices with these qualified names, and the names in each."""
    wanted = frozenset(names)
    found: dict[str, tuple[str, ...]] = {}
    for file in registry.files:
        if file.specification is None or os.path.basename(file.path).startswith(_OURS):
            continue
        kind = file.specification.kind
        same = tuple(device.name for device in file.specification.devices if f"{kind}={device.name}" in wanted)
        if same:
            found[file.path] = tuple(f"{kind}={name}" for name in same)
    return found


def _refuse_conflicts(directory: str, made: Sequence[Specification]) -> None:
    names = [f"{specification.kind}={device.name}" for specification in made for device in specification.devices]
    for path, same in others_of(directories.read([directory]), names).items():
        shown = same[0] if len(same) == 1 else f"{same[0]} and {len(same) - 1} more"
        why = f"has {shown} too, and engines refuse a device that two files of one directory have"
        remedy = (
            "remove it and what writes it (systemctl disable --now nvidia-cdi-refresh.path nvidia-cdi-refresh.service),"
            " or go on using it instead"
        )
        raise HookError(f"CDI file {quoted(path)}", why, remedy, "OGH1221")


def _keep(directory: str, specification: Specification) -> Outcome | None:
    path = path_of(directory, specification.kind)
    if not specification.devices:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return None
        return Outcome(path=path, outcome="removed")
    text = writing.write(specification, "yaml").encode()
    count = len(specification.devices)
    if _is_there(path, text):
        return Outcome(path=path, outcome="unchanged", devices=count)
    replace_file(path, text, mode=_MODE)
    return Outcome(path=path, outcome="written", devices=count)


def _is_there(path: str, text: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(text) + 1) == text
    except OSError:
        return False
