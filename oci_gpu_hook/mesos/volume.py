"""/usr/local/nvidia in a container: the place of the driver's files for images of before ld caches were written.

Mesos' gpu/nvidia isolator mounts a copy of the driver there that it made when the agent started, and puts it first in
LD_LIBRARY_PATH: after an upgrade of the driver that is a driver which the kernel refuses. In its place comes a
directory of links to what the hook has attached, and likewise where an image names the place and has nothing there.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply import attach as applying
from oci_gpu_hook.apply import syscalls
from oci_gpu_hook.apply.mounts import Attachment, attributes_of
from oci_gpu_hook.apply.process import Process
from oci_gpu_hook.errors import ApplyError, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.apply.rootfs import Rootfs
    from oci_gpu_hook.container import Container
    from oci_gpu_hook.plan import Plan

PATH: Final = "/usr/local/nvidia"
_VARIABLES: Final = ("LD_LIBRARY_PATH=", "PATH=")
_BINARIES: Final = "/usr/bin/"
_SIZE: Final = "1048576"  # bytes; a link takes an inode, a directory entry none


def offer(plan: Plan, container: Container) -> None:
    """Put links to the driver's files where the container looks for them. Raises HookError."""
    with Process(container.pid) as process, applying.open_rootfs(container, process) as rootfs:
        if not (_is_mounted(rootfs) or _is_wanted(container, rootfs)):
            return
        onto = rootfs.make_directory(PATH)
        try:
            tree = _links(plan)
        except OSError as error:
            os.close(onto)
            raise ApplyError(f"cannot make {quoted(PATH)}", reason(error), "see that the kernel has tmpfs") from None
        try:
            applying.attach_all([Attachment(tree=tree, onto=onto, path=PATH)], [], process, rootfs)
        finally:
            os.close(tree)
            os.close(onto)


def _is_mounted(rootfs: Rootfs) -> bool:
    """Tell whether something is mounted just there."""
    mounts = []
    for path in (PATH, os.path.dirname(PATH)):
        fd = rootfs.directory(path)
        if fd is None:
            return False
        mounts.append(syscalls.mount_id(fd))
        os.close(fd)
    return mounts[0] != mounts[1]


def _is_wanted(container: Container, rootfs: Rootfs) -> bool:
    """Tell whether the container looks for something there and has nothing."""
    texts = [entry.partition("=")[2] for entry in container.env if entry.startswith(_VARIABLES)]
    named = any(part == PATH or part.startswith(PATH + "/") for text in texts for part in text.split(":"))
    return named and not rootfs.names(PATH)


def _links(plan: Plan) -> int:
    """Return a detached file system with the directories of the isolator's volume, full of links. Raises OSError."""
    tree = syscalls.new_tmpfs((("mode", "0755"), ("size", _SIZE)), attributes_of(("nosuid", "nodev", "noexec")))
    try:
        links = [(f"lib{library.bits}".removesuffix("32"), library.name, library.path) for library in plan.ld_cache]
        paths = [mount.container_path for mount in plan.edits.mounts]
        links += [("bin", os.path.basename(path), path) for path in paths if path.startswith(_BINARIES)]
        for directory in ("bin", "lib", "lib64"):
            os.mkdir(directory, 0o755, dir_fd=tree)
        for directory, name, path in links:
            try:
                os.symlink(path, f"{directory}/{name}", dir_fd=tree)
            except FileExistsError:
                continue  # the ld cache's first entry of a name is the one that counts
        syscalls.mount_setattr(tree, attributes_of(("ro",)), syscalls.MS_PRIVATE)
    except BaseException:
        os.close(tree)
        raise
    return tree
