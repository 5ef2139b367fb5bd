"""Writes the journal: one file for each container in the state directory, which records changes before they are made.

It is used for rollback after a crash, for `poststop`, and to tell what a container holds; `reader` reads it.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.apply.journal import ending
from oci_gpu_hook.apply.journal.entry import DIRECTORY, UNNAMED, key, key_of, path_in
from oci_gpu_hook.base import limits, log, state
from oci_gpu_hook.base.document import dump, has_few_items
from oci_gpu_hook.base.errors import ApplyError, StateError, quoted, reason
from oci_gpu_hook.base.files import drop_unfinished, replace_file
from oci_gpu_hook.base.locks import attempt
from oci_gpu_hook.base.processes import boot_id, lives, start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, Self

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config

_LOCK: Final = ".lock"
_SET_LOCK: Final = 37  # include/uapi/asm-generic/fcntl.h, F_OFD_SETLK
_WRITE_LOCK: Final = 1  # F_WRLCK
_FROM_THE_START: Final = 0  # SEEK_SET, which would need the whole `os`
_SPREAD: Final = 0x9E3779B97F4A7C15  # two rootfs that share a byte only wait for each other
_OFFSETS: Final = (1 << 62) - 1


def record(config: Config, rootfs_identity: tuple[int, int], entry_of: Callable[[], Entry]) -> Entry:
    """Write and return the entry of a container that is being started.

    entry_of: inspects the rootfs and makes the entry, while nobody cleans up after another container on that rootfs.
    Containers on other rootfs do not wait for it, since a rootfs may have volumes that never answer. Raises StateError,
    OSError and what `entry_of` raises.
    """
    state.directory(config.state_dir, DIRECTORY)
    with Lock(config, rootfs_identity):
        entry = entry_of()
        write(config, entry)
    return entry


def write(config: Config, entry: Entry) -> None:
    """Write the entry, in the directory that `record` has created.

    Raises ApplyError if it would be too large to be read back, and OSError.
    """
    document: dict[str, object] = {
        "pid": entry.pid,  # these five members must come first: `dead` reads no further
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
        "mounted": entry.mounted,
        "ldCache": entry.ld_cache,
    }
    if entry.own_mounted:
        document["ownMounted"] = entry.own_mounted
    if entry.attached:
        document["attached"] = entry.attached
        document["capabilities"] = entry.capabilities
    if entry.changing:
        document["changing"] = entry.changing
    if any(entry.share):
        memory, cores = entry.share
        document["share"] = {"memory": memory, "cores": cores}
    if entry.node_sources:
        document["nodeSources"] = entry.node_sources
    if entry.late:
        document["late"] = entry.late
    if entry.rootfs_born:
        document["rootfsBorn"] = entry.rootfs_born
    data = dump(document)
    if len(data) > limits.JOURNAL_ENTRY or not has_few_items(data):
        what = f"the journal of container {quoted(entry.id)}"
        most = f"{limits.JOURNAL_ENTRY} bytes or {limits.JSON_ITEMS} values"
        why = f"would be larger than {most}, and could not be read back to clean up"
        raise ApplyError(
            what, why, "remove the links with long targets from the image's library directories", "OGH1518"
        )
    path = path_in(os.path.join(config.state_dir, DIRECTORY), key(entry))
    replace_file(path, data)
    ending.write(config, entry, path, _offset(entry.rootfs_identity))


def _of_boot(entry: Entry) -> dict[str, object]:
    if not entry.boot_id:
        return {}
    pid, started = entry.hook
    return {"bootId": entry.boot_id, "hookPid": pid, "hookStartTime": started, "since": entry.since}


def has_entry(config: Config, container_id: str, pid: int) -> bool:
    """Tell whether there is an entry, perhaps of an older version, of the container whose process is `pid`."""
    directory = os.path.join(config.state_dir, DIRECTORY)
    if os.access(path_in(directory, key_of(container_id, pid, start_time(pid))), os.F_OK):
        return True
    if not os.access(path_in(directory, container_id or UNNAMED), os.F_OK):
        return False
    from oci_gpu_hook.apply.journal import reader

    entry = reader.read(config, container_id or UNNAMED)
    return entry is not None and entry.pid == pid and entry.is_alive()


def dead(config: Config) -> list[str]:
    """Return the keys of containers whose process and hook have both ended. Cheap: no entry is parsed."""
    try:
        directory = state.existing(config.state_dir, DIRECTORY)
        names = os.listdir(directory) if directory else []
    except (OSError, StateError):
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
    return not (lives(*container) or lives(*hook))


def ld_cache_path(config: Config, entry: Entry) -> str:
    """Return the path of the container's ld cache until it is mounted."""
    return _ld_cache_path(config, key(entry))


def _ld_cache_path(config: Config, key: str) -> str:
    return os.path.join(config.state_dir, DIRECTORY, f"{key}.ld.so.cache")


def forget(config: Config, key: str) -> None:
    """Remove an entry, if it exists, and the files that belong to it."""
    entry = path_in(os.path.join(config.state_dir, DIRECTORY), key)
    for path in (_ld_cache_path(config, key), entry):
        drop(path)
        drop_unfinished(path)
    for path in (tried_path(config, key), ending.path_of(entry)):
        drop(path)


def is_kept(config: Config, key: str) -> bool:
    """Tell whether there is an entry with that key, readable or not."""
    return os.access(path_in(os.path.join(config.state_dir, DIRECTORY), key), os.F_OK)


def is_left_over(config: Config, name: str) -> bool:
    """Tell whether a file belongs to a dead container that has no entry."""
    container_id, _, rest = name.rpartition("~")
    process, _, suffix = rest.partition(".")
    pid, _, started = process.partition("-")
    if suffix in ("", "json") or not (pid.isdecimal() and started.isdecimal()):
        return False
    return not lives(int(pid), int(started)) and not is_kept(config, f"{container_id}~{process}")


def tried_path(config: Config, key: str) -> str:
    """Return the path of the mark that exists while a dead container's rootfs is cleaned, and if that was given up."""
    return os.path.join(config.state_dir, DIRECTORY, f"{key}.tried")


def drop(path: str) -> None:
    """Remove a state file, if there is one."""
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise


def _offset(rootfs_identity: tuple[int, int]) -> int:
    """Return the byte of the lock file that stands for a rootfs."""
    device, inode = rootfs_identity
    return (device * _SPREAD + inode) & _OFFSETS


class Lock:
    """The right to inspect a rootfs and to clean up there after dead containers, for a `with` block.

    Each rootfs has its own lock, because the holder reads files of a container, which may never answer. The
    attempt ends after `patience` seconds; `is_held` tells whether it succeeded. All locks are in one file, a byte for
    each rootfs.
    """

    def __init__(self, config: Config, rootfs_identity: tuple[int, int], patience: float | None = None) -> None:
        self._config = config
        self._offset = _offset(rootfs_identity)
        self._patience = limits.JOURNAL_LOCK_SECONDS if patience is None else patience
        self._fd: int | None = None
        self.is_held = False

    def __enter__(self) -> Self:
        directory = state.existing(self._config.state_dir, DIRECTORY)
        if directory is None:
            return self  # no container was ever given anything on this host
        path = os.path.join(directory, _LOCK)
        try:
            fd = self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self.is_held = attempt(lambda: self._try(fd), self._patience)
            if not self.is_held and self._patience:
                log.warning("lock not acquired", path=path, seconds=self._patience)
        except OSError as error:
            log.warning("lock not acquired", path=path, reason=reason(error))
        return self

    def demand(self) -> None:
        """Raise ApplyError unless the lock is held: what changes a running container must be alone there."""
        if not self.is_held:
            what = "cannot change the container"
            why = "another process of oci-gpu-hook is changing it"
            raise ApplyError(what, why, "try again when that has ended", "OGH1520")

    def _try(self, fd: int) -> None:
        from fcntl import fcntl
        from struct import pack

        # struct flock. The lock belongs to the open file, not to the process, whose threads and descriptors would share
        # it.
        fcntl(fd, _SET_LOCK, pack("hhqqi4x", _WRITE_LOCK, _FROM_THE_START, self._offset, 1, 0))

    def __exit__(self, *_exception: object) -> None:
        if self._fd is not None:
            os.close(self._fd)
