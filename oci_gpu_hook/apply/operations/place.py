"""Where an edit goes: the directory that it lies in, and the file or directory that a mount goes onto.

What is missing of them is made, belongs to the container's root, and is taken back while it is empty.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply.journal import changes
from oci_gpu_hook.apply.rootfs.rootfs import unsafe
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import UnsafeRootfs, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Final, Self, TypeAlias

    from oci_gpu_hook.apply.journal.changes import Change
    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.apply.rootfs.directory import Directories, Directory
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs

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


class Preflight:
    """The look at what will have to be made in a rootfs, before anything is.

    changes: what will be made, in order. absent: files, links and nodes that were not there, and so can be made without
    another look. mounted: the identities of the host's files that will be mounted. cached: paths that the rootfs's own
    ld cache will be given.
    """

    def __init__(self, rootfs: Rootfs, directories: Directories) -> None:
        self._rootfs = rootfs
        self._directories = directories
        self._places: dict[str, tuple[Directory | None, bool]] = {}  # what `directory` has returned
        self.changes: list[Change] = []
        self.absent: set[str] = set()
        self.mounted: tuple[tuple[str, int, int, int, int], ...] = ()
        self.cached: tuple[str, ...] = ()

    def file(self, path: str) -> None:
        """Look at a mountpoint that is to be a file. A link that leads nowhere makes way for one."""
        directory, name, passing = self.entry(path)
        if directory is None:
            self.changes.append(changes.file(path, passing))
        elif (was := directory.link_target(name)) is not None and not self._rootfs.exists(path):
            self.changes.append(changes.link(path, "", was, passing))
            self.changes.append(changes.file(path, passing))

    def entry(self, path: str) -> tuple[Directory | None, str, bool]:
        """Return the directory that something is in, None where nothing is; its name there; and whether that passes.

        Raises UnsafeRootfs where something other than a directory lies on the way.
        """
        parent, _, name = path.rpartition("/")
        directory, passing = self._places.get(parent) or self.directory(parent)
        if directory is not None and syscalls.is_there(directory.fd, name):
            return directory, name, passing
        self.absent.add(path)
        return None, name, passing

    def directory(self, path: str) -> tuple[Directory | None, bool]:
        """Return a directory, None where it will be made; and whether it lies in a mount, and passes with that."""
        place = self._places.get(path)
        if place is None:
            found = self._directories.find(path)
            if found is None:
                passing = self.directory(path.rpartition("/")[0])[1]
                self.changes.append(changes.directory(path, passing))
            else:
                passing = found.mount_id != self._rootfs.mount_id
            place = self._places[path] = found, passing
        return place


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
            self._refuse_odd(fd, path)
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
                raise in_the_way(path, found)
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
                raise in_the_way(path, found)
        self._refuse_odd(fd, path)
        return fd

    def _refuse_odd(self, fd: int, path: str) -> None:
        """Refuse a mountpoint that an image led to where the runtime still has to work: / and the kernel's files.

        What is mounted over /proc/PID/attr/exec, say, would swallow the process's confinement (CVE-2019-16884).
        """
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) == (self._root.st_dev, self._root.st_ino):
            where = "the root directory"
        elif (
            found.st_dev != self._root.st_dev
            and not path.startswith("/proc/")
            and syscalls.file_system_type(fd) in syscalls.KERNEL_FILE_SYSTEMS
        ):
            where = "the kernel's files"
        else:
            return
        raise UnsafeRootfs(f"container path {quoted(path)}", f"leads to {where}", "remove the link from the image")


def in_the_way(path: str, found: os.stat_result) -> UnsafeRootfs:
    """Return the refusal of something in an image where an edit goes."""
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFBLK: "block device"}
    kind = kinds.get(stat.S_IFMT(found.st_mode), "device node of other numbers")
    return UnsafeRootfs(f"container path {quoted(path)}", f"the image has a {kind} there", "remove it from the image")
