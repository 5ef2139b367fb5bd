"""Where an edit goes: the directory that it lies in, and the file or directory that a mount goes onto.

What is missing of them is made, belongs to the container's root, and is taken back while it is empty.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply.rootfs.rootfs import unsafe
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import UnsafeRootfs, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Final, Self, TypeAlias

    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.apply.rootfs.directory import Directories, Directory

    # A detached mount, the descriptor that it will be attached to, and the container's path of that, for messages.
    Attachment: TypeAlias = tuple[int, int, str]

_ENTRY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
ATTEMPTS: Final = 4  # what is looked at may be made or removed by a container on the same rootfs before it is used


class Descriptors:
    """Descriptors that are closed at the end of a `with` block. A mount that was attached by then stays."""

    def __init__(self) -> None:
        self._opened: list[int] = []

    def keep(self, fd: int) -> int:
        """Take a descriptor over, and return it."""
        self._opened.append(fd)
        return fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        close = os.close
        for fd in self._opened:
            close(fd)


class Materializing:
    """What the kinds of edits make things with.

    absent: paths where the look has found nothing; what is to be there is made without another. keep: takes descriptors
    that have to stay open until the mounts are attached. attachments: mounts that were prepared, in order.
    user_namespace: whether the container has one. state_file: where contents may be kept until they are mounted.
    """

    def __init__(
        self, site: Site, directories: Directories, absent: Collection[str], opened: Descriptors, state_file: str
    ) -> None:
        self.rootfs = rootfs = site.rootfs
        self.directories = directories
        self.absent = absent
        self.keep = opened.keep
        self.user_namespace = "user" in site.container.namespaces
        self.state_file = state_file
        self.attachments: list[Attachment] = []
        self._root = os.fstat(rootfs.fd)
        self._own: dict[str, int] = {}  # container path with a slash: detached file system
        self._in_own: tuple[str, ...] = ()  # those paths

    def mount(self, tree: int, path: str, *, directory: bool) -> None:
        """Have a detached mount attached at `path`."""
        self.attachments.append((tree, self.mountpoint(path, directory=directory), path))

    def mount_own(self, tree: int, path: str) -> None:
        """Have a detached file system of the hook's own attached, which has the mountpoints for what goes into it."""
        self.mount(tree, path, directory=True)
        self._own[path + "/"] = tree
        self._in_own = tuple(self._own)

    def mountpoint(self, path: str, *, directory: bool) -> int:
        """Return a descriptor of the file or directory at `path`, made empty if missing. Raises HookError, OSError."""
        if path.startswith(self._in_own):
            return self._own_mountpoint(path)
        if directory:
            fd = self.directories.make(path).fd
            refuse_odd(fd, path, self._root)
            return fd
        parent, _, name = path.rpartition("/")
        place = self.directories.make(parent)
        is_new = path in self.absent
        for _ in range(ATTEMPTS):
            try:
                return self.keep(place.make_file(name)) if is_new else self._image_file(place, name, path)
            except FileExistsError:
                is_new = False
            except FileNotFoundError:
                is_new = True
        raise UnsafeRootfs(f"container path {quoted(path)}", "keeps changing", "stop what renames files in the rootfs")

    def _own_mountpoint(self, path: str) -> int:
        """Return a descriptor of what a file system of the hook's own has for the path."""
        own = next(own for own in self._in_own if path.startswith(own))
        return self.keep(syscalls.openat2(self._own[own], path[len(own) :], os.O_PATH, syscalls.RESOLVE_BENEATH))

    def _image_file(self, place: Directory, name: str, path: str) -> int:
        """Return the file that is there. Raises FileNotFoundError where none is, after a link to nothing made way."""
        fd = self.keep(os.open(name, _ENTRY, dir_fd=place.fd))
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            if not stat.S_ISLNK(found.st_mode):
                raise in_the_way(path, found.st_mode)
            try:
                fd = self.keep(self.rootfs.resolve(path))
            except FileNotFoundError:
                place.refuse_volume(name)
                os.unlink(name, dir_fd=place.fd)  # the journal remembers where it led
                raise
            except OSError as error:
                raise unsafe(path, error) from None
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise in_the_way(path, found.st_mode)
        refuse_odd(fd, path, self._root)
        return fd


def refuse_odd(fd: int, path: str, root: os.stat_result) -> None:
    """Refuse a mountpoint that an image led to where the runtime still has to work: / and the kernel's files.

    What is mounted over /proc/PID/attr/exec, say, would swallow the process's confinement (CVE-2019-16884).
    """
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino) == (root.st_dev, root.st_ino):
        where = "the root directory"
    elif (
        found.st_dev != root.st_dev
        and not path.startswith("/proc/")
        and syscalls.file_system_type(fd) in syscalls.KERNEL_FILE_SYSTEMS
    ):
        where = "the kernel's files"
    else:
        return
    raise UnsafeRootfs(f"container path {quoted(path)}", f"leads to {where}", "remove the link from the image")


def in_the_way(path: str, mode: int) -> UnsafeRootfs:
    """Return the refusal of something in an image where an edit goes."""
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFBLK: "block device"}
    kind = kinds.get(stat.S_IFMT(mode), "device node of other numbers")
    return UnsafeRootfs(f"container path {quoted(path)}", f"the image has a {kind} there", "remove it from the image")


def is_shared(path: str) -> UnsafeRootfs:
    """Return the refusal of a mountpoint in a mount that passes on what is mounted there."""
    why = "lies in a mount that is shared with the host, which would see what is mounted there"
    return UnsafeRootfs(f"container path {quoted(path)}", why, "mount it private or as a slave in the container")
