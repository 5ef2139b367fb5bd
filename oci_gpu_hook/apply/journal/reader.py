"""Reads the journal, for `poststop`, for rollback after a crash, and to tell what a container holds.

Several containers may share a rootfs; what was made in it for one of them is removed with the last of them.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply.journal.changes import change
from oci_gpu_hook.apply.journal.entry import DIRECTORY, UNNAMED, Entry, key, key_of, path_in
from oci_gpu_hook.base import limits, state
from oci_gpu_hook.base.document import parse
from oci_gpu_hook.base.errors import HookError, StateError, shortage
from oci_gpu_hook.base.trust import read_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_gpu_hook.apply.journal.changes import Change
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.edits import Numbers


def read(config: Config, name: str) -> Entry | None:
    """Return the entry with that key; None if it does not exist or cannot be read.

    Raises ApplyError if descriptors or memory are too few to tell: an entry that counted as missing would be forgotten,
    with the changes that it records.
    """
    path = path_in(os.path.join(config.state_dir, DIRECTORY), name)
    try:
        data = read_trusted(path, limits.JOURNAL_ENTRY)
    except StateError:
        return None
    except OSError as error:
        if short := shortage(error):
            raise short from None
        return None
    try:
        entry = _entry(parse(data, "journal"))
    except (HookError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    # The key names files that cleanup removes, so an entry may only have the key under which it was found.
    if name == key(entry):
        return entry
    return entry.replace(key=name) if name == (entry.id or UNNAMED) else None


def read_all(config: Config) -> list[Entry]:
    """Return the entries of all containers, by id."""
    return _read(config, keys(config))


def of_container(config: Config, container_id: str, bundle: str) -> list[Entry]:
    """Return the entries of containers, living and dead, with that id and bundle."""
    unnamed = key_of("", 0, 0)[:1]  # for an id that is too long for a file name
    names = [
        name
        for name in keys(config)
        if name.startswith((f"{container_id}~", unnamed)) or name == (container_id or "unnamed")
    ]
    return [entry for entry in _read(config, names) if entry.id == container_id and _is_bundle(entry.bundle, bundle)]


def keys(config: Config) -> list[str]:
    """Return the keys of all entries, sorted. Raises StateError if another user could have written them."""
    directory = state.existing(config.state_dir, DIRECTORY)
    try:
        names = sorted(os.listdir(directory)) if directory else []
    except PermissionError as error:  # else a user would be told that there is no container
        raise state.unusable(directory or "", error) from None
    except OSError:
        return []
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def _read(config: Config, names: Iterable[str]) -> list[Entry]:
    found = (read(config, name) for name in names)
    return [entry for entry in found if entry is not None]


def _is_bundle(one: str, other: str) -> bool:
    """Tell whether two paths lead to the same bundle; runtimes may resolve links in the path that poststop gets."""
    return os.path.normpath(one) == os.path.normpath(other) or os.path.realpath(one) == os.path.realpath(other)


def sharers(config: Config, entry: Entry) -> list[Entry]:
    """Return the entries of other containers on the same root directory that are alive, or being created."""
    others = [name for name in keys(config) if name != key(entry)]
    return [other for other in _read(config, others) if other.has_rootfs_of(entry) and other.is_active()]


def _entry(document: dict[str, Any]) -> Entry:
    return Entry(
        id=str(document["id"]),
        pid=int(document["pid"]),
        start_time=int(document["startTime"]),
        bundle=str(document["bundle"]),
        rootfs=str(document["rootfs"]),
        rootfs_identity=_pair(document["rootfsIdentity"]),
        gpus=tuple(map(str, document["gpus"])),
        changes=tuple(map(_change, document["changes"])),
        cached=tuple(map(str, document["cached"])),
        nodes=tuple(map(_numbers, document["nodes"])),
        unit=str(document["unit"]),
        exclusive=bool(document.get("exclusive")),
        driver=str(document.get("driver", "")),
        cgroups_path=str(document.get("cgroupsPath", "")),
        node_paths=tuple(map(str, document.get("nodePaths", ()))),
        node_sources=tuple([(str(path), str(source)) for path, source in document.get("nodeSources", ())]),
        mounts=tuple(map(str, document.get("mounts", ()))),
        mounted=tuple(map(_mounted, document.get("mounted", ()))),
        own_mounted=tuple(map(_mounted, document.get("ownMounted", ()))),
        ld_cache=tuple(map(str, document.get("ldCache", ()))),
        boot_id=str(document.get("bootId", "")),
        since=str(document.get("since", "")),
        hook=(int(document.get("hookPid", 0)), int(document.get("hookStartTime", 0))),
        rootfs_born=int(document.get("rootfsBorn", 0)),
        attached=tuple(map(str, document.get("attached", ()))),
        capabilities=tuple(map(str, document.get("capabilities", ()))),
        changing=tuple(map(str, document.get("changing", ()))),
        share=_share(document.get("share")),
        late=tuple([(str(path), bool(needed)) for path, needed in document.get("late", ())]),
    )


def _change(found: Any) -> Change:
    if type(found) is not dict:
        kind, path, target, device, was, passing = found
        return change(str(kind), str(path), target=str(target), device=int(device), was=str(was), passing=bool(passing))
    # The form of older versions: containers keep running while the hook is upgraded.
    return change(
        str(found["kind"]),
        str(found["path"]),
        target=str(found.get("target", "")),
        device=int(found.get("device", 0)),
        was=str(found.get("was", "")),
        passing=bool(found.get("passing")),
    )


def _mounted(found: Any) -> tuple[str, int, int, int, int]:
    path, number, major, minor, inode = found
    return str(path), int(number), int(major), int(minor), int(inode)


def _share(found: Any) -> tuple[int, int]:
    return (int(found["memory"]), int(found["cores"])) if found else (0, 0)


def _numbers(found: Any) -> Numbers:
    major, minor, *block = found
    return (int(major), int(minor), "b") if block else (int(major), int(minor))


def _pair(numbers: Any) -> tuple[int, int]:
    first, second = numbers
    return int(first), int(second)
