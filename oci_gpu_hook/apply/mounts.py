"""Mounts by descriptor: detached copies of host files, small file systems of this project's own, and where they go.

A source is opened on the host, while this process is there; its copy hangs nowhere, is made read-only while nobody can
see it, and is then attached to a descriptor. No path is looked up twice.
"""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import NEW_KERNEL, ApplyError, DriverError, quoted, reason, shortage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, Self, TypeAlias

    from oci_gpu_hook.devices.edits import DeviceNode, GeneratedFile, Mount

    # A detached mount, the descriptor that it will be attached to, and the container's path of that, for messages.
    Attachment: TypeAlias = tuple[int, int, str]

_PRIVILEGE: Final = "run the hook as root with CAP_SYS_ADMIN, and let no seccomp profile refuse the mount calls to it"
_REFRESH: Final = "run `oci-gpu info --refresh`; if the file is missing, install the driver again"
_ATTRIBUTES: Final = {
    "ro": syscalls.MOUNT_ATTR_RDONLY,
    "nosuid": syscalls.MOUNT_ATTR_NOSUID,
    "nodev": syscalls.MOUNT_ATTR_NODEV,
    "noexec": syscalls.MOUNT_ATTR_NOEXEC,
}

_known: dict[tuple[str, ...], bytes] = {}  # options → struct mount_attr


def attributes_of(options: Sequence[str]) -> int:
    """Return the MOUNT_ATTR_* bits of mount options; options without one (bind, private) add nothing."""
    bits = 0
    for option in options:
        bits |= _ATTRIBUTES.get(option, 0)
    return bits


def clone_file(mount: Mount) -> int:
    """Return a detached, private copy of the mount at a host file or directory. Raises DriverError, ApplyError."""
    attributes = _known.get(mount.options)  # a hundred mounts have two kinds of options
    if attributes is None:
        attributes = syscalls.mount_attributes(attributes_of(mount.options), syscalls.MS_PRIVATE)
        _known[mount.options] = attributes
    try:
        return syscalls.clone_tree(mount.host_path, attributes)
    except OSError as error:
        raise _source_failed(mount.host_path, error) from None


class Sources:
    """The host's files and directories that a plan mounts, cloned before anything of the container is changed.

    The clones are closed at the end of a `with` block.

    identities: (container path, *syscalls.mount_identity) of each, for the journal. A mount is the hook's own if it has
    one of these, and nothing else is proof.
    """

    def __init__(self) -> None:
        self._trees: dict[str, int] = {}
        self.identities: tuple[tuple[str, int, int, int, int], ...] = ()

    def hold(self, wanted: Sequence[Mount]) -> None:
        """Clone what the mounts show. Raises DriverError, ApplyError."""
        trees = self._trees
        identity = syscalls.mount_identity
        found = []
        for mount in wanted:
            if mount.type != "tmpfs":
                path = mount.container_path
                tree = trees[path] = clone_file(mount)
                found.append((path, *identity(tree)))
        self.identities = tuple(found)

    def tree(self, mount: Mount) -> int | None:
        """Return the clone for a mount's container path, which stays this object's."""
        return self._trees.get(mount.container_path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for tree in self._trees.values():
            os.close(tree)  # attached mounts stay


def clone_node(node: DeviceNode) -> int:
    """Return a detached copy of a host device node that has been seen to be the one that was planned."""
    # Read-only does not keep anybody from writing to the device, but root in the container from a chmod of the host's.
    attributes = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
    try:
        tree = syscalls.clone_tree(node.host_path, syscalls.mount_attributes(attributes, syscalls.MS_PRIVATE))
    except OSError as error:
        raise _source_failed(node.host_path, error) from None
    status = os.fstat(tree)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(node.major, node.minor):
        os.close(tree)
        why = f"is not the character device {node.major}:{node.minor} any more"
        raise DriverError(f"device node {quoted(node.host_path)}", why, _REFRESH)
    return tree


def make_tmpfs(mount: Mount, files: Sequence[GeneratedFile], others: Sequence[Mount]) -> int:
    """Return a detached tmpfs with those generated files, and those mount points of others, that lie below it."""
    prefix = mount.container_path + "/"
    try:
        tree = syscalls.new_tmpfs((("mode", "0555"), ("size", "262144")), attributes_of(("nosuid", "nodev", "noexec")))
        made: set[str] = set()
        for other in others:
            if other.container_path.startswith(prefix):
                path = other.container_path[len(prefix) :]
                if other.directory:
                    _make_directories(tree, path, made)
                else:
                    _make_file(tree, path, b"", made)
        for file in files:
            if file.path.startswith(prefix):
                _make_file(tree, file.path[len(prefix) :], file.contents, made)
        syscalls.mount_setattr(tree, attributes_of(mount.options), syscalls.MS_PRIVATE)
    except OSError as error:
        raise _source_failed(mount.container_path, error) from None
    return tree


def attach(attachments: Sequence[Attachment], attached: list[Attachment]) -> None:
    """Attach detached mounts, in order; `attached` takes those that are. Raises ApplyError."""
    path = ""
    try:
        for attachment in attachments:
            tree, onto, path = attachment
            syscalls.move_mount(tree, onto)
            attached.append(attachment)
    except OSError as error:
        # ENOTDIR: what was a file when the inventory was made is a directory now, or the other way round.
        remedy = {errno.ENOSYS: NEW_KERNEL, errno.ENOTDIR: _REFRESH}.get(error.errno or 0, _PRIVILEGE)
        raise ApplyError(f"cannot mount {quoted(path)} in the container", reason(error), remedy) from None


def _source_failed(path: str, error: OSError) -> ApplyError | DriverError:
    if short := shortage(error):
        return short
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return DriverError(f"driver file {quoted(path)}", "is not there any more", _REFRESH)
    if error.errno == errno.ENOSYS:
        return ApplyError(f"cannot mount {quoted(path)}", "the kernel lacks the mount calls by descriptor", NEW_KERNEL)
    return ApplyError(f"cannot mount {quoted(path)}", reason(error), _PRIVILEGE)


def _make_directories(tree: int, path: str, made: set[str]) -> None:
    if path and path not in made:
        _make_directories(tree, path.rpartition("/")[0], made)
        os.mkdir(path, 0o555, dir_fd=tree)
        made.add(path)


def _make_file(tree: int, path: str, contents: bytes, made: set[str]) -> None:
    _make_directories(tree, path.rpartition("/")[0], made)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444, dir_fd=tree)
    try:
        os.write(fd, contents)
    finally:
        os.close(fd)
