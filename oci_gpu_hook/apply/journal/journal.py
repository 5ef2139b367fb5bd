"""What was done to each container, one file a container in the state directory, written before it is done.

It serves rollback after a crash, `poststop`, and whoever asks later what a container holds: `entries` reads it back.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.apply.systemd import units
from oci_gpu_hook.base import log, state
from oci_gpu_hook.base.document import dump
from oci_gpu_hook.base.errors import reason
from oci_gpu_hook.base.files import drop_unfinished, replace_file
from oci_gpu_hook.base.locks import acquire
from oci_gpu_hook.base.processes import boot_id, start_time
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, Self

    from oci_gpu_hook.apply.journal.changes import Change
    from oci_gpu_hook.base.config.model import Config

DIRECTORY: Final = "containers"
_LOCK: Final = ".lock"
_PATIENCE: Final = 5.0  # seconds; it is held for milliseconds, unless its holder is stopped


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
        return self.boot_id in ("", boot_id()) and _lives(self.pid, self.start_time)

    def is_active(self) -> bool:
        """Tell whether the container lives, or what is made for it: a hook may outlive a runtime that was killed."""
        return self.is_alive() or (self.boot_id == boot_id() and _lives(*self.hook))


def record(config: Config, entry_of: Callable[[], Entry]) -> Entry:
    """Write and return the entry of a container that starts, once nothing dead is left under its name or any other.

    entry_of: looks at the rootfs for it, while nobody takes back what another container on the same rootfs had made.
    Raises StateError, OSError and what `entry_of` does: what goes wrong with the dead is logged and fails nobody.
    """
    state.directory(config.state_dir, DIRECTORY)
    with Lock(config):
        if dead(config) or units.ended_scopes():
            from oci_gpu_hook.apply import cleanup

            cleanup.take_back_dead(config)
        entry = entry_of()
        write(config, entry)
    return entry


def write(config: Config, entry: Entry) -> None:
    """Keep the entry, in the directory that `record` has made. Raises OSError."""
    document = {
        "pid": entry.pid,  # these five first: `dead` reads no further
        "startTime": entry.start_time,
        **_of_boot(entry),
        "id": entry.id,
        "bundle": entry.bundle,
        "rootfs": entry.rootfs,
        "rootfsIdentity": entry.rootfs_identity,
        "gpus": entry.gpus,
        "changes": entry.changes,
        "cached": entry.cached,
        "nodes": entry.nodes,
        "unit": entry.unit,
        "exclusive": entry.exclusive,
        "driver": entry.driver,
        "cgroupsPath": entry.cgroups_path,
        "nodePaths": entry.node_paths,
        "mounts": entry.mounts,
        "ldCache": entry.ld_cache,
    }
    replace_file(path_in(os.path.join(config.state_dir, DIRECTORY), entry.id), dump(document))


def _of_boot(entry: Entry) -> dict[str, object]:
    if not entry.boot_id:
        return {}
    pid, started = entry.hook
    return {"bootId": entry.boot_id, "hookPid": pid, "hookStartTime": started, "since": entry.since}


def has_entry(config: Config, container_id: str) -> bool:
    """Tell whether there is a file for the container, whatever is in it."""
    return os.access(path_in(os.path.join(config.state_dir, DIRECTORY), container_id), os.F_OK)


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
    if members.get(b'"bootId"', b"").strip(b'"') not in (b"", boot_id().encode()):
        return True
    return not (_lives(*container) or _lives(*hook))


def _lives(pid: int, started: int) -> bool:
    return 0 != start_time(pid) == started


def ld_cache_path(config: Config, container_id: str) -> str:
    """Return where the container's ld cache is kept until it is mounted."""
    return path_in(os.path.join(config.state_dir, DIRECTORY), container_id).removesuffix(".json") + ".ld.so.cache"


def forget(config: Config, container_id: str) -> None:
    """Drop the container's entry, if there is one, and what belongs to it."""
    entry = path_in(os.path.join(config.state_dir, DIRECTORY), container_id)
    for path in (ld_cache_path(config, container_id), entry):
        drop(path)
        drop_unfinished(path)


def drop(path: str) -> None:
    """Remove a state file, if there is one."""
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise


def path_in(directory: str, container_id: str) -> str:
    """Return the path of a container's entry."""
    return os.path.join(directory, f"{container_id or 'unnamed'}.json")


class Lock:
    """The right to take back what is dead, for a `with` block; given up on where its holder does not move."""

    def __init__(self, config: Config) -> None:
        self._path = os.path.join(config.state_dir, DIRECTORY, _LOCK)
        self._fd: int | None = None

    def __enter__(self) -> Self:
        try:
            self._fd = acquire(self._path, _PATIENCE)
            if self._fd is None:
                log.warning("lock not had", path=self._path, seconds=_PATIENCE)
        except FileNotFoundError:
            pass  # no container was ever given anything
        except OSError as error:
            log.warning("lock not had", path=self._path, reason=reason(error))
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._fd is not None:
            os.close(self._fd)
