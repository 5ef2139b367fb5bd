"""Making a plan's files, links and nodes in a rootfs, and the mounts that go onto them, ready to be attached."""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.apply import mounts
from oci_gpu_hook.apply.rootfs.directory import cannot_create
from oci_gpu_hook.apply.rootfs.rootfs import unsafe
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import UnsafeRootfs, quoted
from oci_gpu_hook.devices.edits import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Self

    from oci_gpu_hook.apply.mounts import Attachment, Sources
    from oci_gpu_hook.apply.rootfs.directory import Directories, Directory
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.devices.edits import DeviceNode, Symlink
    from oci_gpu_hook.plan.plan import Plan

_ENTRY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS: Final = 4  # what is looked at may be made or removed by a container on the same rootfs before it is used


class Materializing:
    """Makes what a plan needs in a rootfs, and prepares the mounts that go onto it, for a `with` block.

    Its descriptors are closed at the end of the block, when the mounts are attached; those of directories and sources
    belong to others. absent: paths where a look has found nothing; what is to be there is made without another.
    sources: clones of what the plan mounts; what is not among them is cloned here. attachments: what was prepared.
    """

    def __init__(
        self,
        rootfs: Rootfs,
        directories: Directories,
        absent: frozenset[str],
        sources: Sources,
        user_namespace: bool,  # noqa: FBT001
    ) -> None:
        self._rootfs = rootfs
        self._directories = directories
        self._absent = absent
        self._sources = sources
        self._user_namespace = user_namespace
        self._root = os.fstat(rootfs.fd)
        self._own: dict[str, int] = {}  # container path with a slash: detached tmpfs
        self._in_own: tuple[str, ...] = ()  # those paths
        self._opened: list[int] = []
        self.attachments: list[Attachment] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        close = os.close
        for fd in self._opened:
            close(fd)

    def make(self, plan: Plan) -> None:
        """Make everything that the plan wants to be there. Raises HookError; `cleanup.take_back` undoes it."""
        for mount in plan.edits.mounts:
            if mount.type == "tmpfs":
                self._place_tmpfs(mount, plan)
        for mount in plan.edits.mounts:
            if mount.type != "tmpfs":
                self._place_mount(mount)
        for link in plan.links:
            self._place_link(link, plan)
        for node in plan.edits.device_nodes:
            self._place_node(node)

    def _place_tmpfs(self, mount: Mount, plan: Plan) -> None:
        onto = self.mountpoint(mount.container_path, directory=True)
        tree = self._held(mounts.make_tmpfs(mount, plan.files, plan.edits.mounts))
        self._own[mount.container_path + "/"] = tree
        self._in_own = tuple(self._own)
        self.attachments.append((tree, onto, mount.container_path))

    def _place_mount(self, mount: Mount) -> None:
        tree = self._sources.tree(mount)
        if tree is None:
            tree = self._held(mounts.clone_file(mount))
        onto = self.mountpoint(mount.container_path, directory=mount.directory)
        self.attachments.append((tree, onto, mount.container_path))

    def _place_link(self, link: Symlink, plan: Plan) -> None:
        parent, _, name = link.path.rpartition("/")
        directory = self._directories.make(parent)
        for _ in range(_ATTEMPTS):
            try:
                directory.make_link(name, link.target)
            except FileExistsError:
                if not self._is_replaceable(link, directory, name):
                    break
            else:
                return
        # The link is there, or a file of the image or of another tool is: that stays, under a mount of what was meant.
        if stat.S_ISREG(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode):
            source = _meant(link, plan)
            if source is not None:
                self._place_mount(Mount(host_path=source.host_path, container_path=link.path, options=source.options))

    def _is_replaceable(self, link: Symlink, directory: Directory, name: str) -> bool:
        """Make way for a link where another is, which the journal remembers. Tell whether to try again."""
        try:
            found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                return False
            if not stat.S_ISLNK(found.st_mode):
                raise _in_the_way(link.path, found)
            if os.readlink(name, dir_fd=directory.fd) == link.target:
                return False
            directory.refuse_volume(name)
            os.unlink(name, dir_fd=directory.fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise cannot_create(link.path, error) from None
        return True

    def _place_node(self, node: DeviceNode) -> None:
        parent, _, name = node.path.rpartition("/")
        directory = self._directories.make(parent)
        if node.path in self._absent:
            # The kernel ignores nodes in the mounts of a user namespace.
            if not self._user_namespace and directory.takes_nodes() and self._makes_node(directory, name, node):
                return
        elif _is_node(directory, name, node):
            return
        tree = self._held(mounts.clone_node(node))
        onto = self.mountpoint(node.path, directory=False)
        self.attachments.append((tree, onto, node.path))

    def _makes_node(self, directory: Directory, name: str, node: DeviceNode) -> bool:
        """Make the node. Tell whether it is there: without CAP_MKNOD it is not, and the host's is bound."""
        try:
            directory.make_node(name, node)
        except FileExistsError:
            return _is_node(directory, name, node)  # made meanwhile
        except OSError as error:
            if error.errno == errno.EPERM:
                return False
            raise cannot_create(node.path, error) from None
        return True

    def mountpoint(self, path: str, *, directory: bool) -> int:
        """Return a descriptor of the file or directory at `path`, made empty if missing."""
        if path.startswith(self._in_own):
            return self._own_mountpoint(path)
        if directory:
            fd = self._directories.make(path).fd
            self._refuse_odd(fd, path)
            return fd
        parent, _, name = path.rpartition("/")
        place = self._directories.make(parent)
        is_new = path in self._absent
        for _ in range(_ATTEMPTS):
            try:
                return self._held(place.make_file(name)) if is_new else self._image_file(place, name, path)
            except FileExistsError:
                is_new = False
            except FileNotFoundError:
                is_new = True
        raise UnsafeRootfs(f"container path {quoted(path)}", "keeps changing", "stop what renames files in the rootfs")

    def _own_mountpoint(self, path: str) -> int:
        """Return a descriptor of what `make_tmpfs` has made for the path."""
        own = next(own for own in self._in_own if path.startswith(own))
        return self._held(syscalls.openat2(self._own[own], path[len(own) :], os.O_PATH, syscalls.RESOLVE_BENEATH))

    def _image_file(self, place: Directory, name: str, path: str) -> int:
        """Return the file that is there. Raises FileNotFoundError where none is, after a link to nothing made way."""
        fd = self._held(os.open(name, _ENTRY, dir_fd=place.fd))
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            if not stat.S_ISLNK(found.st_mode):
                raise _in_the_way(path, found)
            try:
                fd = self._held(self._rootfs.resolve(path))
            except FileNotFoundError:
                place.refuse_volume(name)
                os.unlink(name, dir_fd=place.fd)  # the journal remembers where it led
                raise
            except OSError as error:
                raise unsafe(path, error) from None
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise _in_the_way(path, found)
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

    def _held(self, fd: int) -> int:
        self._opened.append(fd)
        return fd


def _meant(link: Symlink, plan: Plan) -> Mount | None:
    """Return the mount that a link leads to, if it does by way of the plan's links."""
    targets = {each.path: os.path.join(os.path.dirname(each.path), each.target) for each in plan.links}
    target = link.path
    while target in targets:
        target = targets[target]
    return next((mount for mount in plan.edits.mounts if mount.container_path == target), None)


def _is_node(directory: Directory, name: str, node: DeviceNode) -> bool:
    try:
        found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(node.major, node.minor)


def _in_the_way(path: str, found: os.stat_result) -> UnsafeRootfs:
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFBLK: "block device"}
    kind = kinds.get(stat.S_IFMT(found.st_mode), "device node of other numbers")
    return UnsafeRootfs(f"container path {quoted(path)}", f"the image has a {kind} there", "remove it from the image")
