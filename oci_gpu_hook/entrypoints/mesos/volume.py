"""/usr/local/nvidia in a Mesos container, where images made for Mesos look for the driver.

The gpu/nvidia isolator mounts a copy of the driver there that it made when the agent started, and puts it first in
LD_LIBRARY_PATH: after an upgrade it is a driver that the kernel refuses. It is hidden, and the container is given links
to the running driver's files in its place (nvidia.volume), as is one that names the place and has nothing there.
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply import transaction as applying
from oci_gpu_hook.apply.mounts import attributes_of
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import ApplyError, quoted, reason
from oci_gpu_hook.devices.nvidia.volume import ANNOTATION, USUAL, VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.apply.process import Process
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container

_SEARCH_PATHS: Final = ("LD_LIBRARY_PATH=", "PATH=")
_SIZE: Final = "1048576"  # bytes; links take none of them


def replace(container: Container, process: Process, rootfs: Rootfs, config: Config) -> Container:
    """Hide the isolator's volume, and return the container as one that asks for links there. Raises HookError."""
    mounted = _is_mounted(rootfs)
    if mounted:
        _hide(process, rootfs)
    decided = bool(config.driver_volume) or any(entry.startswith(VARIABLE + "=") for entry in container.env)
    if decided or not (mounted or _is_looked_for(container, rootfs)):
        return container
    annotations = {**container.annotations, ANNOTATION: USUAL}
    return container.replace(annotations=annotations)


def _is_mounted(rootfs: Rootfs) -> bool:
    """Tell whether something is mounted just there."""
    mounts = []
    for path in (USUAL, os.path.dirname(USUAL)):
        fd = rootfs.directory(path)
        if fd is None:
            return False
        mounts.append(syscalls.mount_id(fd))
        os.close(fd)
    return mounts[0] != mounts[1]


def _is_looked_for(container: Container, rootfs: Rootfs) -> bool:
    """Tell whether the container's search paths name the place, and nothing is there."""
    texts = [entry.partition("=")[2] for entry in container.env if entry.startswith(_SEARCH_PATHS)]
    named = any(part == USUAL or part.startswith(USUAL + "/") for text in texts for part in text.split(":"))
    return named and not rootfs.names(USUAL)


def _hide(process: Process, rootfs: Rootfs) -> None:
    with Directories(rootfs) as directories:
        onto = directories.make(USUAL).fd
        try:
            tree = syscalls.new_tmpfs((("mode", "0755"), ("size", _SIZE)), attributes_of(("nosuid", "nodev", "noexec")))
        except OSError as error:
            raise ApplyError(f"cannot make {quoted(USUAL)}", reason(error), "see that the kernel has tmpfs") from None
        try:
            applying.attach_all([(tree, onto, USUAL)], [], process, rootfs)
        finally:
            os.close(tree)
