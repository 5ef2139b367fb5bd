"""Keeps the specification files of this host up to date: one file for each class, replaced only if it differs.

The directory is opened once, and files are looked at, replaced and removed in what was opened.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.admin.cdi import generate
from oci_gpu_hook.admin.cdi.alone import DIRECTORY, OURS
from oci_gpu_hook.base.errors import HookError, quoted, reason
from oci_gpu_hook.base.files import read_all, replace_file
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.cdi.spec_files import directories, reading, writing
from oci_gpu_hook.devices.nvidia.cdi_classes import CLASSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.spec_files.model import Specification
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.devices.nvidia.specification import Form

# `gpu` includes MIG devices; `mig` is for people who want a file with MIG devices only.
_KEPT: Final = tuple(name for name in CLASSES if name != "mig")
_MODE: Final = 0o644
_LOOK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
    engines would give neither device. If that file came while files were written, those that were not there before are
    taken away again.
    """
    made = [generate.specification_of(inventory, config, name, capabilities, form) for name in _KEPT]
    return _kept(directory, made)


def refresh_kind(kind: str, config: Config, directory: str, names: str) -> list[Outcome]:
    """Do the same for one kind of devices that the kernel describes. names: "index", "uuid" or "both"."""
    return _kept(directory, [generate.seen_specification_of(kind, config, names)])


def _kept(directory: str, made: Sequence[Specification]) -> list[Outcome]:
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)  # noqa: TID251  a directory of the host's
        here = os.open(directory, DIRECTORY)
        try:
            before = _files(here)
            _refuse_conflicts(directory, made)
            found = [outcome for specification in made if (outcome := _keep(here, directory, specification))]
            _refuse_exchanged(directory, here)
            if _of_others(_files(here)) != _of_others(before):
                _refuse_late_conflicts(here, directory, made, before)
        finally:
            os.close(here)
    except OSError as error:
        remedy = "run it as root, or name another directory with --output"
        raise HookError(
            f"directory {quoted(directory)}", f"cannot be written: {reason(error)}", remedy, "OGH1802"
        ) from None
    return found


def _files(here: int) -> dict[str, tuple[int, int, int]]:
    """Return the specification files: for each name the facts that show whether it changes (inode, size, time)."""
    found = {}
    for name in os.listdir(here):
        if name.endswith(reading.SUFFIXES):
            try:
                status = os.stat(name, dir_fd=here)
            except OSError:
                continue  # a link that leads nowhere, or removed meanwhile
            found[name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def _of_others(files: Mapping[str, tuple[int, int, int]]) -> dict[str, tuple[int, int, int]]:
    return {name: status for name, status in files.items() if not name.startswith(OURS)}


def _refuse_late_conflicts(here: int, directory: str, made: Sequence[Specification], before: Collection[str]) -> None:
    """Raise HookError if another tool's file with the same names has come, and take away files that are new.

    So engines give the other tool's devices. A file of ours that was there `before` stays, as it does where the other
    tool's file is found first.
    """
    try:
        _refuse_conflicts(directory, made)
    except HookError:
        for specification in made:
            if _name(specification.kind) not in before:
                _drop(here, _name(specification.kind))
        raise


def _drop(here: int, name: str) -> bool:
    """Remove a file; tell whether there was one."""
    try:
        os.unlink(name, dir_fd=here)
    except FileNotFoundError:
        return False
    return True


def _refuse_exchanged(directory: str, here: int) -> None:
    """Raise HookError if another directory is now where the files were written. Raises OSError if none is."""
    if not os.path.samestat(os.stat(directory), os.fstat(here)):
        why = "was replaced while files were written"
        raise HookError(f"directory {quoted(directory)}", why, "run it again", "OGH1802")


def path_of(directory: str, kind: str) -> str:
    """Return the path of this project's file for a kind of devices."""
    return os.path.join(directory, _name(kind))


def _name(kind: str) -> str:
    return f"{OURS}{kind.replace('/', '-')}.yaml"


def others_of(registry: directories.Registry, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the files of other tools that have devices with these qualified names, and the names in each."""
    wanted = frozenset(names)
    found: dict[str, tuple[str, ...]] = {}
    for file in registry.files:
        if file.specification is None or os.path.basename(file.path).startswith(OURS):
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


def _keep(here: int, directory: str, specification: Specification) -> Outcome | None:
    name = _name(specification.kind)
    path = os.path.join(directory, name)
    if not specification.devices:
        return Outcome(path=path, outcome="removed") if _drop(here, name) else None
    text = writing.write(specification, "yaml").encode()
    count = len(specification.devices)
    if _is_there(here, name, text):
        return Outcome(path=path, outcome="unchanged", devices=count)
    replace_file(name, text, mode=_MODE, dir_fd=here)
    return Outcome(path=path, outcome="written", devices=count)


def _is_there(here: int, name: str, text: bytes) -> bool:
    """Tell whether the file has this text, is a file of this user's, and has the mode that a new one would have."""
    try:
        fd = os.open(name, _LOOK, dir_fd=here)
    except OSError:
        return False
    try:
        found = os.fstat(fd)
        owned = (found.st_uid, found.st_mode) == (os.geteuid(), stat.S_IFREG | _MODE)
        return owned and found.st_size == len(text) and read_all(fd, len(text), "specification") == text
    except (OSError, HookError):
        return False
    finally:
        os.close(fd)
