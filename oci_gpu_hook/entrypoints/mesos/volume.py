"""Replaces /usr/local/nvidia in a Mesos container, where images made for Mesos look for the driver.

The gpu/nvidia isolator mounts a copy of the driver there, made when the agent started, and puts it first in
LD_LIBRARY_PATH; after an upgrade the kernel refuses that driver. So the copy is hidden, and the container gets links to
the running driver's files in its place (devices/nvidia/volume.py). A container whose search paths name the directory
gets them too if nothing is there.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply import transaction as applying
from oci_gpu_hook.apply.operations.bind import attributes_of
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import ApplyError, UnsafeRootfs, quoted, reason
from oci_gpu_hook.devices.nvidia.volume import ANNOTATION, USUAL, VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.apply.process import Process
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container

_SEARCH_PATHS: Final = ("LD_LIBRARY_PATH=", "PATH=")
_SIZE: Final = "1048576"  # bytes; links need none of them


def replace(container: Container, process: Process, rootfs: Rootfs, config: Config) -> Container:
    """Hide the isolator's volume, and return the container with a request for links there. Raises HookError."""
    onto = _mounted(rootfs)
    mounted = onto is not None
    if onto is not None:
        try:
            _hide(onto, process, rootfs)
        finally:
            os.close(onto)
    decided = bool(config.driver_volume) or any(entry.startswith(VARIABLE + "=") for entry in container.env)
    if decided or not (mounted or _is_looked_for(container, rootfs)):
        return container
    annotations = {**container.annotations, ANNOTATION: USUAL}
    return container.replace(annotations=annotations)


def _mounted(rootfs: Rootfs) -> int | None:
    """Return a descriptor of the mount at exactly that directory, None if there is none. Raises UnsafeRootfs.

    An image's link may lead to another mount; the kernel's files and the root are never hidden.
    """
    fd = rootfs.directory(USUAL)
    if fd is None:
        return None
    above = rootfs.directory(os.path.dirname(USUAL))
    mount = syscalls.mount_id(fd)
    mount_above = mount
    if above is not None:
        mount_above = syscalls.mount_id(above)
        os.close(above)
    if mount == mount_above:
        os.close(fd)
        return None
    if mount == rootfs.mount_id or syscalls.file_system_type(fd) in syscalls.KERNEL_FILE_SYSTEMS:
        os.close(fd)
        why = "leads to the root directory's mount, or the kernel's files"
        raise UnsafeRootfs(f"container path {quoted(USUAL)}", why, "remove the link from the image", "OGH1601")
    return fd


def _is_looked_for(container: Container, rootfs: Rootfs) -> bool:
    """Tell whether the container's search paths name the directory, and nothing is there."""
    texts = [entry.partition("=")[2] for entry in container.env if entry.startswith(_SEARCH_PATHS)]
    named = any(part == USUAL or part.startswith(USUAL + "/") for text in texts for part in text.split(":"))
    return named and not rootfs.names(USUAL)


def _hide(onto: int, process: Process, rootfs: Rootfs) -> None:
    try:
        tree = syscalls.new_tmpfs((("mode", "0755"), ("size", _SIZE)), attributes_of(("nosuid", "nodev", "noexec")))
    except OSError as error:
        raise ApplyError(
            f"cannot make {quoted(USUAL)}", reason(error), "check that the kernel has tmpfs", "OGH1507"
        ) from None
    try:
        applying.attach_all([(tree, onto, USUAL)], [], process, rootfs)
    finally:
        os.close(tree)
