"""The container's first process, held by a descriptor of its /proc directory, so that a reused pid does no harm."""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.base import limits, mount_table, streams, syscalls
from oci_gpu_hook.base.errors import NEW_KERNEL, ApplyError, InvalidInput, coded, quoted, reason
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.base.rootless import host_id_of_root
from oci_gpu_hook.oci.container import ASK_THE_ENGINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final, Self

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container, IdMapping

_PATH_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LARGEST_PID: Final = 1 << 22  # include/linux/threads.h, PID_MAX_LIMIT
_DIED: Final = "the container died before its GPUs were attached; see the engine's log"


class Process:
    """A process and its mount namespace. pid: 0 for this process, because its pid may be another's in /proc."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._proc = os.open(f"/proc/{pid or 'self'}", _PATH_DIRECTORY)
            self._own_namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            self._namespace = os.open("ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        except OSError as error:
            raise InvalidInput(f"container process {pid}", reason(error), _DIED, "OGH1004") from None
        self._descriptors: int | None = None
        self._mountinfo: bytes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for fd in (self._proc, self._own_namespace, self._namespace):
            os.close(fd)
        self._let_go_of_descriptors()

    def open_rootfs(self, rootfs: str) -> int:
        """Return an O_PATH descriptor of the container's root directory, in the container's mount namespace.

        Before the runtime pivots, the process has the host's root, and the rootfs is a directory below it; afterwards
        its root is the rootfs.
        """
        try:
            root = os.open("root", _PATH_DIRECTORY, dir_fd=self._proc)
            theirs, ours = os.fstat(root), os.stat("/")
            pivoted = (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino)
            try:
                # Below the process's root: an absolute link in the path must not lead into the namespace of the hook.
                scope = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
                fd = syscalls.openat2(root, "/" if pivoted else rootfs, _PATH_DIRECTORY, scope)
            finally:
                os.close(root)
        except OSError as error:
            if error.errno in (
                errno.ENOSYS,
                errno.EPERM,
            ):  # EPERM: from a seccomp profile
                raise ApplyError(
                    "cannot open the container's files", "openat2 is refused", NEW_KERNEL, "OGH1501"
                ) from None
            remedy = "check root.path in the bundle's config.json, and that the kernel is Linux 5.12 or later"
            raise InvalidInput(f"container rootfs {quoted(rootfs)}", reason(error), remedy, "OGH1006") from None
        found = os.fstat(fd)
        if not pivoted and (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            os.close(fd)
            raise is_hosts_root(rootfs)
        return fd

    def mountinfo(self) -> bytes:
        """Return its mountinfo (proc(5)), read at the first call."""
        if self._mountinfo is None:
            self._mountinfo = _few_mounts(read_file("mountinfo", dir_fd=self._proc))
        return self._mountinfo

    def own_mounts(self, rootfs: int) -> frozenset[int]:
        """Return the ids of those mounts in its rootfs (a mount id) that show no files of the host."""
        return mount_table.own_mounts(self.mountinfo(), rootfs, _own_mountinfo)

    def shared_mounts(self) -> frozenset[int]:
        """Return the ids of the shared mounts in its namespace."""
        return mount_table.shared_mounts(self.mountinfo())

    def enter(self) -> None:
        """Enter the mount namespace. From here on nothing may be imported, and no path string resolved."""
        self._own_descriptors()
        self._switch(self._namespace)

    def leave(self) -> None:
        """Return to the previous mount namespace. If that fails, end: every path would be the container's.

        Then what was made stays, as after any kill, until the next start reads the journal.
        """
        try:
            self._switch(self._own_namespace)
        except ApplyError as error:
            message = f"cannot leave the container's mount namespace: {error.why}"
            streams.say(f"oci-gpu-hook: error: {coded(message, error.code)}")
            streams.leave(1)
        self._let_go_of_descriptors()

    def _own_descriptors(self) -> int:
        """Return a descriptor below which names such as "7" lead to this process's own, in every mount namespace.

        The process that uses it opens it: a child has another such directory than the process that forked it.
        """
        if self._descriptors is None:
            self._descriptors = os.open("/proc/self/fd", _PATH_DIRECTORY)
        return self._descriptors

    def _let_go_of_descriptors(self) -> None:
        if self._descriptors is not None:
            os.close(self._descriptors)
            self._descriptors = None

    def _switch(self, namespace: int) -> None:
        try:
            syscalls.setns(namespace, syscalls.CLONE_NEWNS)
        except OSError as error:
            remedy = "run the hook as root with CAP_SYS_ADMIN and CAP_SYS_CHROOT, or as root of the user namespace"
            raise ApplyError("cannot enter the container's mount namespace", reason(error), remedy, "OGH1502") from None

    def copy_there(self, mount: int) -> int:
        """Return a detached copy of a mount of the container, made in its namespace. Raises OSError."""
        self.enter()
        try:
            return syscalls.clone_of(mount)
        finally:
            self.leave()

    def unmount_there(self, mounts: Iterable[int]) -> None:
        """Unmount mounts of the container in its namespace, and return. Each as `unmount` does."""
        self.enter()
        try:
            for mount in mounts:
                self.unmount(mount)
        finally:
            self.leave()

    def unmount(self, mount: int) -> None:
        """Unmount the mount whose root is the descriptor `mount`, if it is mounted, by the descriptor alone."""
        os.fchdir(self._own_descriptors())
        try:
            syscalls.umount2(str(mount).encode(), syscalls.MNT_DETACH)
        except OSError:
            return
        finally:
            os.chdir("/")


def open_rootfs(container: Container, process: Process) -> Rootfs:
    """Return the rootfs of a container that an engine is starting, or that is running.

    process: pid 0 if this process is in the container's namespaces, and so is its root already.
    """
    owner = _owner(container) if process.pid else (0, 0)
    return Rootfs(process.open_rootfs(container.rootfs), owner, process.own_mounts)


def _owner(container: Container) -> tuple[int, int]:
    return _host_id(container.uid_mappings), _host_id(container.gid_mappings)


def _host_id(mappings: Sequence[IdMapping]) -> int:
    """Return the host's id of the container's root; 0 if it has no user namespace or does not map its root."""
    return host_id_of_root(((mapping.container_id, mapping.host_id) for mapping in mappings), 0)


class Site(Record):
    """A container that is being changed: its process and its rootfs, both held open."""

    container: Container
    process: Process
    rootfs: Rootfs
    config: Config


def is_hosts_root(rootfs: str) -> InvalidInput:
    """Return the error for a container whose rootfs is the host's root directory."""
    why = "is the root directory of the host"
    return InvalidInput(f"container rootfs {quoted(rootfs)}", why, "give the container its own rootfs", "OGH1005")


def _own_mountinfo() -> bytes:
    return _few_mounts(read_file("/proc/self/mountinfo"))


def _few_mounts(mountinfo: bytes) -> bytes:
    if mountinfo.count(b"\n") > limits.MOUNTS:
        why = f"has more than {limits.MOUNTS} mounts"
        raise ApplyError(
            "the mount namespace of the container or the host", why, "unmount what is not needed", "OGH1003"
        )
    return mountinfo


def check_process(pid: int) -> None:
    """Raise InvalidInput unless `pid` is a live process in another mount namespace than this one's.

    Working in this process's own mount namespace would change the host.
    """
    what = f"OCI state: pid {quoted(pid)}"
    if not 0 < pid <= _LARGEST_PID:
        raise InvalidInput(what, "is not the number of a process", ASK_THE_ENGINE, "OGH1002")
    try:
        theirs = os.stat(f"/proc/{pid}/ns/mnt")
    except OSError as error:
        raise _not_there(what, pid, error) from None
    ours = os.stat("/proc/self/ns/mnt")
    if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
        why = "has the mount namespace of the host, where no container can be changed without changing the host"
        raise InvalidInput(
            what, why, "give the container a mount namespace (linux.namespaces in config.json)", "OGH1005"
        )


def _not_there(what: str, pid: int, error: OSError) -> InvalidInput:
    """Return the error for a process of which /proc shows no namespace."""
    from oci_gpu_hook.base.processes import start_time

    if isinstance(error, FileNotFoundError) and start_time(pid):
        why = "has ended its first thread, and /proc shows no namespace of it, although others of its threads run"
        return InvalidInput(what, why, f"end the container by `kill -9 {pid}`", "OGH1004")
    why = "no such process" if isinstance(error, FileNotFoundError) else reason(error)
    return InvalidInput(what, why, _DIED, "OGH1004")
