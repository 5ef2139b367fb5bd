"""The journal read back: what `poststop`, rollback after a crash, and whoever asks what a container holds need of it.

A rootfs may serve several containers at once; what one of them made for it goes away with the last.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply.journal.changes import change
from oci_gpu_hook.apply.journal.journal import DIRECTORY, Entry, path_in, write
from oci_gpu_hook.base import state
from oci_gpu_hook.base.document import parse
from oci_gpu_hook.base.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.apply.journal.changes import Change
    from oci_gpu_hook.base.config.model import Config

_LARGEST: Final = 4 * 1024 * 1024


def read(config: Config, container_id: str) -> Entry | None:
    """Return the container's entry; None where there is none, or none that can be read."""
    path = path_in(os.path.join(config.state_dir, DIRECTORY), container_id)
    data = state.read(path, _LARGEST)
    if data is None:
        return None
    try:
        entry = _entry(parse(data, "journal"))
    except (HookError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    # The id names files that cleanup removes: no other may stand in an entry than the one it was found under.
    return entry if entry.id in (container_id, "") and path_in(os.path.dirname(path), entry.id) == path else None


def read_all(config: Config) -> list[Entry]:
    """Return the entries of all containers, by id."""
    try:
        names = sorted(os.listdir(os.path.join(config.state_dir, DIRECTORY)))
    except OSError:
        return []
    found = (read(config, name.removesuffix(".json")) for name in names if name.endswith(".json"))
    return [entry for entry in found if entry is not None]


def sharers(config: Config, entry: Entry) -> list[Entry]:
    """Return the entries of other containers on the same root directory that live, or are being made."""
    return [
        other
        for other in read_all(config)
        if other.id != entry.id and other.rootfs_identity == entry.rootfs_identity and other.is_active()
    ]


def hand_over(config: Config, entry: Entry, heir: Entry) -> None:
    """Make the changes of an entry another's to take back."""
    added = [made for made in entry.changes if made not in heir.changes]
    cached = [path for path in entry.cached if path not in heir.cached]
    write(config, heir.replace(changes=(*added, *heir.changes), cached=(*cached, *heir.cached)))


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
        nodes=tuple(_pair(numbers) for numbers in document["nodes"]),
        unit=str(document["unit"]),
        exclusive=bool(document.get("exclusive")),
        driver=str(document.get("driver", "")),
        cgroups_path=str(document.get("cgroupsPath", "")),
        node_paths=tuple(map(str, document.get("nodePaths", ()))),
        mounts=tuple(map(str, document.get("mounts", ()))),
        ld_cache=tuple(map(str, document.get("ldCache", ()))),
        boot_id=str(document.get("bootId", "")),
        since=str(document.get("since", "")),
        hook=(int(document.get("hookPid", 0)), int(document.get("hookStartTime", 0))),
    )


def _change(found: Any) -> Change:
    if type(found) is not dict:
        kind, path, target, device, was, passing = found
        return change(str(kind), str(path), target=str(target), device=int(device), was=str(was), passing=bool(passing))
    # As older hooks wrote it: containers run on while the hook is upgraded.
    return change(
        str(found["kind"]),
        str(found["path"]),
        target=str(found.get("target", "")),
        device=int(found.get("device", 0)),
        was=str(found.get("was", "")),
        passing=bool(found.get("passing")),
    )


def _pair(numbers: Any) -> tuple[int, int]:
    first, second = numbers
    return int(first), int(second)
