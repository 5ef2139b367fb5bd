"""What was done to each container, one file a container in the state directory, written before it is done.

It serves rollback after a crash, `poststop`, and whoever asks later what a container holds. A rootfs may serve several
containers at once; what one of them made for it goes away with the last.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook import state
from oci_gpu_hook.apply.changes import Change
from oci_gpu_hook.apply.changes import to_json as change_to_json
from oci_gpu_hook.document import dump, parse
from oci_gpu_hook.errors import HookError
from oci_gpu_hook.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.config import Config

DIRECTORY: Final = "containers"
_LARGEST: Final = 4 * 1024 * 1024


class Entry(Record):
    """A container's entry. rootfs_identity: (st_dev, st_ino) of its root directory.

    cached: paths that the rootfs's own /etc/ld.so.cache was given in place; () where the cache was mounted over.
    nodes: (major, minor) of the devices that its cgroup was told to let through. unit: the systemd unit, "" for none.
    exclusive: whether the GPUs are for this container alone; a damaged lease record is made anew from it.
    driver: the version whose files it was given, "" in the entry of an older hook. cgroups_path: of its config.json.
    node_paths: where each of `nodes` is in the container. mounts: mount points of the host's files in it.
    ld_cache: paths that its ld cache was to list.
    boot_id: of the boot that pid and start_time are of. since: when it was given its GPUs, RFC 3339, UTC. Both "" in
    the entry of an older hook. hook: (pid, start time) of the hook that does what the entry says.
    """

    id: str
    pid: int
    start_time: int
    bundle: str
    rootfs: str
    rootfs_identity: tuple[int, int]
    gpus: tuple[str, ...]
    changes: tuple[Change, ...]
    cached: tuple[str, ...] = ()
    nodes: tuple[tuple[int, int], ...] = ()
    unit: str = ""
    exclusive: bool = False
    driver: str = ""
    cgroups_path: str = ""
    node_paths: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    ld_cache: tuple[str, ...] = ()
    boot_id: str = ""
    since: str = ""
    hook: tuple[int, int] = (0, 0)

    def is_alive(self) -> bool:
        """Tell whether the container's first process lives."""
        return self.boot_id in ("", state.boot_id()) and _lives(self.pid, self.start_time)

    def is_active(self) -> bool:
        """Tell whether the container lives, or what is made for it: a hook may outlive a runtime that was killed."""
        return self.is_alive() or (self.boot_id == state.boot_id() and _lives(*self.hook))


def write(config: Config, entry: Entry) -> None:
    """Keep the entry. Raises StateError, OSError."""
    document = {
        "pid": entry.pid,  # these five first: `dead` reads no further
        "startTime": entry.start_time,
        **_of_boot(entry),
        "id": entry.id,
        "bundle": entry.bundle,
        "rootfs": entry.rootfs,
        "rootfsIdentity": list(entry.rootfs_identity),
        "gpus": list(entry.gpus),
        "changes": [change_to_json(change) for change in entry.changes],
        "cached": list(entry.cached),
        "nodes": [list(numbers) for numbers in entry.nodes],
        "unit": entry.unit,
        "exclusive": entry.exclusive,
        "driver": entry.driver,
        "cgroupsPath": entry.cgroups_path,
        "nodePaths": list(entry.node_paths),
        "mounts": list(entry.mounts),
        "ldCache": list(entry.ld_cache),
    }
    state.write(_path(state.directory(config.state_dir, DIRECTORY), entry.id), dump(document))


def _of_boot(entry: Entry) -> dict[str, object]:
    if not entry.boot_id:
        return {}
    pid, started = entry.hook
    return {"bootId": entry.boot_id, "hookPid": pid, "hookStartTime": started, "since": entry.since}


def read(config: Config, container_id: str) -> Entry | None:
    """Return the container's entry; None where there is none, or none that can be read."""
    path = _path(os.path.join(config.state_dir, DIRECTORY), container_id)
    data = state.read(path, _LARGEST)
    if data is None:
        return None
    try:
        entry = _entry(parse(data, "journal"))
    except (HookError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    # The id names files that cleanup removes: no other may stand in an entry than the one it was found under.
    return entry if entry.id in (container_id, "") and _path(os.path.dirname(path), entry.id) == path else None


def entries(config: Config) -> list[Entry]:
    """Return the entries of all containers, by id."""
    try:
        names = sorted(os.listdir(os.path.join(config.state_dir, DIRECTORY)))
    except OSError:
        return []
    found = (read(config, name.removesuffix(".json")) for name in names if name.endswith(".json"))
    return [entry for entry in found if entry is not None]


def dead(config: Config) -> list[str]:
    """Return the ids of containers that have an entry and neither process nor hook any more. Cheap: none is parsed."""
    directory = os.path.join(config.state_dir, DIRECTORY)
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return [name.removesuffix(".json") for name in names if name.endswith(".json") and _is_dead(f"{directory}/{name}")]


def _is_dead(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        start = os.read(fd, 256)  # {"pid": 1, "startTime": 2, "bootId": "…", "hookPid": 3, "hookStartTime": 4, …
    finally:
        os.close(fd)
    members = dict(member.partition(b": ")[::2] for member in start.lstrip(b"{").split(b", ")[:5])
    try:
        container = int(members[b'"pid"']), int(members[b'"startTime"'])
        hook = int(members.get(b'"hookPid"', 0)), int(members.get(b'"hookStartTime"', 0))
    except (KeyError, ValueError):
        return False
    if members.get(b'"bootId"', b"").strip(b'"') not in (b"", state.boot_id().encode()):
        return True
    return not (_lives(*container) or _lives(*hook))


def _lives(pid: int, started: int) -> bool:
    return 0 != state.start_time(pid) == started


def ld_cache_path(config: Config, container_id: str) -> str:
    """Return where the container's ld cache is kept until it is mounted."""
    return _path(os.path.join(config.state_dir, DIRECTORY), container_id).removesuffix(".json") + ".ld.so.cache"


def forget(config: Config, container_id: str) -> None:
    """Drop the container's entry, if there is one, and what belongs to it."""
    entry = _path(os.path.join(config.state_dir, DIRECTORY), container_id)
    for path in (ld_cache_path(config, container_id), entry):
        drop(path)
        state.drop_unfinished(path)


def drop(path: str) -> None:
    """Remove a state file, if there is one."""
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise


def sharers(config: Config, entry: Entry) -> list[Entry]:
    """Return the entries of other containers on the same root directory that live, or are being made."""
    return [
        other
        for other in entries(config)
        if other.id != entry.id and other.rootfs_identity == entry.rootfs_identity and other.is_active()
    ]


def hand_over(config: Config, entry: Entry, heir: Entry) -> None:
    """Make the changes of an entry another's to take back."""
    added = [change for change in entry.changes if change not in heir.changes]
    cached = [path for path in entry.cached if path not in heir.cached]
    fields = {**heir.__dict__, "changes": (*added, *heir.changes), "cached": (*cached, *heir.cached)}
    write(config, Entry(**fields))


def _path(directory: str, container_id: str) -> str:
    return os.path.join(directory, f"{container_id or 'unnamed'}.json")


def _entry(document: dict[str, Any]) -> Entry:
    return Entry(
        id=str(document["id"]),
        pid=int(document["pid"]),
        start_time=int(document["startTime"]),
        bundle=str(document["bundle"]),
        rootfs=str(document["rootfs"]),
        rootfs_identity=_pair(document["rootfsIdentity"]),
        gpus=tuple(map(str, document["gpus"])),
        changes=tuple(_change(change) for change in document["changes"]),
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


def _change(document: dict[str, Any]) -> Change:
    return Change(
        kind=str(document["kind"]),
        path=str(document["path"]),
        target=str(document.get("target", "")),
        device=int(document.get("device", 0)),
        was=str(document.get("was", "")),
        passing=bool(document.get("passing")),
    )


def _pair(numbers: Any) -> tuple[int, int]:
    first, second = numbers
    return int(first), int(second)
