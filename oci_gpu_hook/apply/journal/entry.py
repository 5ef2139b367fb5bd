"""A container's entry in the journal, and the name of its file. Pure but for `is_alive` and `is_active`.

A file is named after the container's process, because an id does not identify a container: two runtimes, each with a
its own root, may use the same id, and the person who starts a container chooses it.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.processes import boot_id, lives
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.apply.journal.changes import Change
    from oci_gpu_hook.devices.edits import Numbers

DIRECTORY: Final = "containers"
LD_CACHE: Final = "/etc/ld.so.cache"  # where a container has its ld cache
UNNAMED: Final = "unnamed"  # the name of an entry without an id in older versions
_LONGEST_ID: Final = 190  # bytes; a file name has at most 255, and the process and suffixes follow


class Entry(Record):
    """A container's journal entry.

    key: the name of its file if an older version wrote it, made from the id alone. boot_id: the boot that pid and
    start_time belong to. since: when it was given its GPUs, RFC 3339, UTC. cgroups_path: from its config.json.
    hook: (pid, start time) of the hook that makes the changes.
    rootfs_identity: (st_dev, st_ino) of its root directory. rootfs_born: distinguishes that directory from later ones
    with the same inode (syscalls.birth); 0 if unknown.
    driver: the version of the driver whose files it was given. exclusive: whether no other container may have its GPUs,
    in case a damaged lease table is rebuilt from entries.
    nodes: the numbers of the devices that its cgroup was told to permit. node_paths: the path of each of these in
    the container. unit: its systemd unit, "" for none. node_sources: (path in the container, path on the host) of each
    node, "" for one that the host does not have; () if all are nodes of the driver's.
    mounts: mount points of files of the host. mounted: (path, *syscalls.mount_identity) of each of those, which proves
    that a mount is the hook's; file systems of the hook's own are not among them. own_mounted: the same of those; of
    older versions, and of an ld cache before Linux 6.15, there is none.
    cached: paths that were added to the rootfs's own /etc/ld.so.cache; () if a new cache was mounted over it.
    ld_cache: the paths that its ld cache was to list.
    late: what the host had not created yet at its start, as in devices.model.Contribution; `oci-gpu repair` adds it.
    share: the memory and the percentage of cores that it has of each of `gpus` but those that were attached, (0, 0)
    without limits.
    attached: those of `gpus` that it was given while it ran, and capabilities: the driver capabilities that it got with
    them.

    changing: those of `gpus` that are being attached, or detached; an interruption leaves them there.

    In entries of older versions driver, boot_id and since are "", and mounted is ().
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
    nodes: tuple[Numbers, ...] = ()
    unit: str = ""
    exclusive: bool = False
    driver: str = ""
    cgroups_path: str = ""
    node_paths: tuple[str, ...] = ()
    node_sources: tuple[tuple[str, str], ...] = ()
    mounts: tuple[str, ...] = ()
    mounted: tuple[tuple[str, int, int, int, int], ...] = ()
    own_mounted: tuple[tuple[str, int, int, int, int], ...] = ()
    ld_cache: tuple[str, ...] = ()
    boot_id: str = ""
    since: str = ""
    hook: tuple[int, int] = (0, 0)
    rootfs_born: int = 0
    late: tuple[tuple[str, bool], ...] = ()
    attached: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    share: tuple[int, int] = (0, 0)
    changing: tuple[str, ...] = ()
    key: str = ""

    @property
    def own_file_systems(self) -> tuple[str, ...]:
        """The mount points of file systems of the hook's own."""
        proven = {path for path, *_ in self.mounted}
        return tuple([path for path in self.mounts if path not in proven])

    def awaits(self, path: str) -> bool:
        """Tell whether what belongs at a path was not yet created by the host when the container got all else."""
        return any(is_listed(path, listed) for listed, _needed in self.late)

    def is_alive(self) -> bool:
        """Tell whether the container's first process is alive."""
        return self.boot_id in ("", boot_id()) and lives(self.pid, self.start_time)

    def is_active(self) -> bool:
        """Tell whether the container or its hook is alive: a hook may outlive a runtime that was killed."""
        return self.is_alive() or (self.boot_id == boot_id() and lives(*self.hook))

    def has_rootfs_of(self, other: Entry) -> bool:
        """Tell whether two containers have the same root directory, not two that had one inode number in turn."""
        return self.is_rootfs(other.rootfs_identity, other.rootfs_born)

    def is_rootfs(self, identity: tuple[int, int], born: int) -> bool:
        """Tell whether a directory, given by identity and birth, is this container's root."""
        return self.rootfs_identity == identity and (self.rootfs_born == born or 0 in (self.rootfs_born, born))


def key_of(container_id: str, pid: int, started: int) -> str:
    """Return the name of a container's entry: ID~PID-START of its process, without the id if it is too long."""
    name = container_id if len(os.fsencode(container_id)) <= _LONGEST_ID else ""
    return f"{name}~{pid}-{started}"


def is_listed(path: str, listed: str) -> bool:
    """Tell whether a path matches `listed`, which may end in `*` for digits."""
    return path == listed or (
        listed.endswith("*") and path[: len(listed) - 1] == listed[:-1] and path[len(listed) - 1 :].isdecimal()
    )


def key(entry: Entry) -> str:
    """Return the name of an entry's file."""
    return entry.key or key_of(entry.id, entry.pid, entry.start_time)


def id_in(key: str) -> str:
    """Return the container's id from the name of its entry, as far as the name contains it."""
    return key.rpartition("~")[0] or key


def path_in(directory: str, key: str) -> str:
    """Return the path of an entry."""
    return os.path.join(directory, f"{key}.json")
