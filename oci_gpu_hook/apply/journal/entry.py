"""A container's entry in the journal, and the name of its file. Pure but for `is_alive` and `is_active`.

A file is named after the container's process, because an id does not identify a container: two runtimes, each with a
root of its own, may use the same id, and the person who starts a container chooses it.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.processes import boot_id, lives
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.apply.journal.changes import Change

DIRECTORY: Final = "containers"
UNNAMED: Final = "unnamed"  # what older hooks called an entry without an id
_LONGEST_ID: Final = 190  # bytes; a file name has 255, and a process and suffixes follow


class Entry(Record):
    """A container's entry. rootfs_identity: (st_dev, st_ino) of its root directory.

    rootfs_born: what tells it from another of that inode number (syscalls.birth); 0 where that is not known.
    key: the name of its file where that is an older hook's, made of the id alone.

    cached: paths that the rootfs's own /etc/ld.so.cache was given in place; () where the cache was mounted over.
    nodes: (major, minor) of the devices that its cgroup was told to let through. unit: the systemd unit, "" for none.
    exclusive: whether the GPUs are for this container alone; a damaged lease record is made anew from it.
    driver: the version whose files it was given, "" in the entry of an older hook. cgroups_path: of its config.json.
    node_paths: where each of `nodes` is in the container. mounts: mount points of the host's files in it.
    late: what the host had not made yet when it started, as in devices.model.Contribution; `oci-gpu repair` gives it.
    mounted: (path, *syscalls.mount_identity) of each of those but file systems of the hook's own: what proves that a
    mount is the hook's; () in the entry of an older hook. ld_cache: paths that its ld cache was to list.
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
    mounted: tuple[tuple[str, int, int, int, int], ...] = ()
    ld_cache: tuple[str, ...] = ()
    boot_id: str = ""
    since: str = ""
    hook: tuple[int, int] = (0, 0)
    rootfs_born: int = 0
    late: tuple[tuple[str, bool], ...] = ()
    key: str = ""

    def awaits(self, path: str) -> bool:
        """Tell whether the host had not made yet what is at a path, when the container was given all else."""
        return any(is_listed(path, listed) for listed, _needed in self.late)

    def is_alive(self) -> bool:
        """Tell whether the container's first process lives."""
        return self.boot_id in ("", boot_id()) and lives(self.pid, self.start_time)

    def is_active(self) -> bool:
        """Tell whether the container lives, or what is made for it: a hook may outlive a runtime that was killed."""
        return self.is_alive() or (self.boot_id == boot_id() and lives(*self.hook))

    def has_rootfs_of(self, other: Entry) -> bool:
        """Tell whether two containers have one root directory, and not one after the other the same inode number."""
        return self.is_rootfs(other.rootfs_identity, other.rootfs_born)

    def is_rootfs(self, identity: tuple[int, int], born: int) -> bool:
        """Tell whether a directory is this container's root. identity, born: of the directory."""
        return self.rootfs_identity == identity and (self.rootfs_born == born or 0 in (self.rootfs_born, born))


def key_of(container_id: str, pid: int, started: int) -> str:
    """Return the name of a container's entry, by its process: ID~PID-START, without the id where that is too long."""
    name = container_id if len(os.fsencode(container_id)) <= _LONGEST_ID else ""
    return f"{name}~{pid}-{started}"


def is_listed(path: str, listed: str) -> bool:
    """Tell whether a path is what is listed, which may end in `*` for digits."""
    return path == listed or (
        listed.endswith("*") and path[: len(listed) - 1] == listed[:-1] and path[len(listed) - 1 :].isdecimal()
    )


def key(entry: Entry) -> str:
    """Return the name under which an entry is kept."""
    return entry.key or key_of(entry.id, entry.pid, entry.start_time)


def id_in(key: str) -> str:
    """Return the container's id as far as the name of its entry tells."""
    return key.rpartition("~")[0] or key


def path_in(directory: str, key: str) -> str:
    """Return the path of an entry."""
    return os.path.join(directory, f"{key}.json")
