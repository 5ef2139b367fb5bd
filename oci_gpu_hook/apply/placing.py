"""Making a plan's files, links and nodes in a rootfs, and the mounts that go onto them, ready to be attached."""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.apply import mounts, syscalls
from oci_gpu_hook.apply.mounts import Attachment
from oci_gpu_hook.apply.rootfs import cannot_create, unsafe
from oci_gpu_hook.edits import Mount
from oci_gpu_hook.errors import UnsafeRootfs, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.apply.rootfs import Rootfs
    from oci_gpu_hook.edits import DeviceNode, Symlink
    from oci_gpu_hook.plan import Plan

_ST_NODEV: Final = 4  # include/linux/statfs.h
_ENTRY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS: Final = 4  # what is looked at may be made or removed by a container on the same rootfs before it is used


class Placing:
    """Prepares attachments; all descriptors are this object's until `close`."""

    def __init__(self, rootfs: Rootfs, *, user_namespace: bool) -> None:
        self._rootfs = rootfs
        self._user_namespace = user_namespace
        self._root = os.fstat(rootfs.fd)
        self._directories: dict[str, int] = {}
        self._own: dict[str, int] = {}  # container path → detached tmpfs
        self.attachments: list[Attachment] = []

    def place(self, plan: Plan) -> None:
        """Make everything that the plan wants to be there. Raises HookError; `changes.take_back` undoes it."""
        for mount in plan.edits.mounts:
            if mount.type == "tmpfs":
                self._place_tmpfs(mount, plan)
        for mount in plan.edits.mounts:
            if mount.type != "tmpfs":
                self._place_mount(mount)
        sources = {mount.container_path: mount for mount in plan.edits.mounts}
        targets = {link.path: os.path.join(os.path.dirname(link.path), link.target) for link in plan.links}
        for link in plan.links:
            self._place_link(link, sources, targets)
        for node in plan.edits.device_nodes:
            self._place_node(node)

    def _place_tmpfs(self, mount: Mount, plan: Plan) -> None:
        onto = self.mountpoint(mount.container_path, directory=True)
        tree = mounts.make_tmpfs(mount, plan.files, plan.edits.mounts)
        self._own[mount.container_path] = tree
        self.attachments.append(Attachment(tree=tree, onto=onto, path=mount.container_path))

    def _place_mount(self, mount: Mount) -> None:
        tree = mounts.clone_file(mount)
        self.attachments.append(Attachment(tree=tree, onto=-1, path=mount.container_path))
        onto = self.mountpoint(mount.container_path, directory=stat.S_ISDIR(os.fstat(tree).st_mode))
        self.attachments[-1] = Attachment(tree=tree, onto=onto, path=mount.container_path)

    def _place_link(self, link: Symlink, sources: dict[str, Mount], targets: dict[str, str]) -> None:
        parent, name = self._parent(link.path)
        for _ in range(_ATTEMPTS):
            try:
                self._rootfs.make_link(parent, name, link.target, link.path)
            except FileExistsError:
                if not self._is_replaceable(link, parent, name):
                    break
            else:
                return
        # The link is there, or a file of the image or of another tool is: that stays, under a mount of what was meant.
        target = link.path
        while target in targets:
            target = targets[target]
        if target in sources and stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            source = sources[target]
            self._place_mount(Mount(host_path=source.host_path, container_path=link.path, options=source.options))

    def _is_replaceable(self, link: Symlink, parent: int, name: str) -> bool:
        """Make way for a link where another is, which the journal remembers. Tell whether to try again."""
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                return False
            if not stat.S_ISLNK(found.st_mode):
                raise _in_the_way(link.path, found)
            if os.readlink(name, dir_fd=parent) == link.target:
                return False
            self._rootfs.refuse_volume(parent, link.path)
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise cannot_create(link.path, error) from None
        return True

    def _place_node(self, node: DeviceNode) -> None:
        parent, name = self._parent(node.path)
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            if not self._nodes_are_useless(parent):
                try:
                    self._rootfs.make_node(parent, name, node)
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.EEXIST):  # no CAP_MKNOD: bind the host's; made meanwhile
                        raise cannot_create(node.path, error) from None
                else:
                    return
        else:
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(node.major, node.minor):
                return
        tree = mounts.clone_node(node)
        self.attachments.append(Attachment(tree=tree, onto=-1, path=node.path))
        onto = self.mountpoint(node.path, directory=False)
        self.attachments[-1] = Attachment(tree=tree, onto=onto, path=node.path)

    def _nodes_are_useless(self, directory: int) -> bool:
        """Tell whether a node made here could not be opened: the kernel ignores those of a user namespace's mounts."""
        return self._user_namespace or bool(os.fstatvfs(directory).f_flag & _ST_NODEV)

    def mountpoint(self, path: str, *, directory: bool) -> int:
        """Return a descriptor of the file or directory at `path`, made empty if missing."""
        for own, tree in self._own.items():
            if path.startswith(own + "/"):
                return syscalls.openat2(tree, path[len(own) + 1 :], os.O_PATH, syscalls.RESOLVE_BENEATH)
        if directory:
            return self._checked(self._rootfs.make_directory(path), path)
        parent, name = self._parent(path)
        for _ in range(_ATTEMPTS):
            try:
                fd = os.open(name, _ENTRY, dir_fd=parent)
            except FileNotFoundError:
                try:
                    self._rootfs.make_file(parent, name, path)
                except FileExistsError:
                    pass
                continue
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode):
                return self._checked(fd, path)
            os.close(fd)
            if not stat.S_ISLNK(found.st_mode):
                raise _in_the_way(path, found)
            linked = self._linked_file(path)
            if linked is not None:
                return linked
            self._rootfs.refuse_volume(parent, path)
            os.unlink(name, dir_fd=parent)  # a link to nothing: the journal remembers where it led
        raise UnsafeRootfs(f"container path {quoted(path)}", "keeps changing", "stop what renames files in the rootfs")

    def _linked_file(self, path: str) -> int | None:
        """Return the regular file of the image that a link leads to, None where it leads to nothing."""
        try:
            fd = self._rootfs.resolve(path)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise unsafe(path, error) from None
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode):
            return self._checked(fd, path)
        os.close(fd)
        raise _in_the_way(path, found)

    def _checked(self, fd: int, path: str) -> int:
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
            return fd
        os.close(fd)
        raise UnsafeRootfs(f"container path {quoted(path)}", f"leads to {where}", "remove the link from the image")

    def _parent(self, path: str) -> tuple[int, str]:
        directory, name = os.path.split(path)
        if directory not in self._directories:
            self._directories[directory] = self._rootfs.make_directory(directory)
        return self._directories[directory], name

    def close(self) -> None:
        """Close every descriptor; attached mounts stay."""
        for attachment in self.attachments:
            os.close(attachment.tree)
            if attachment.onto >= 0:
                os.close(attachment.onto)
        for fd in self._directories.values():
            os.close(fd)


def _in_the_way(path: str, found: os.stat_result) -> UnsafeRootfs:
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFBLK: "block device"}
    kind = kinds.get(stat.S_IFMT(found.st_mode), "device node of other numbers")
    return UnsafeRootfs(f"container path {quoted(path)}", f"the image has a {kind} there", "remove it from the image")
