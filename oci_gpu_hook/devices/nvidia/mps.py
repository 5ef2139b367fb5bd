"""Finds the pipe directory of the host's Multi-Process Service, for containers that ask to share its server.

NVIDIA's tools give it to every compute container. libnvidia-container takes CUDA_MPS_PIPE_DIRECTORY of the hook's own
environment, otherwise /tmp/nvidia-mps (src/nvc_info.c, lookup_ipcs); nvidia-container-toolkit takes /tmp/nvidia-mps
(internal/discover/ipc.go). Neither finds the directory of a daemon that uses another one.

"The value of this environment variable should be consistent across all MPS clients sharing the same MPS server, and the
MPS control daemon" (NVIDIA, Multi-Process Service, CUDA_MPS_PIPE_DIRECTORY): so the directory has the same path in
containers.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.base.processes import name_of, status_field, variable
from oci_gpu_hook.base.trust import is_trusted
from oci_gpu_hook.devices.model import PIPE_OF_MPS
from oci_gpu_hook.devices.nvidia.model import DriverFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config

FEATURE: Final = "mps"
VARIABLE: Final = "CUDA_MPS_PIPE_DIRECTORY"
_CONTROL: Final = "control"  # in every pipe directory: the daemon takes commands by it
_DAEMON: Final = b"nvidia-cuda-mps"  # nvidia-cuda-mps-control and -server; the kernel cuts names to 15 bytes
# Clients create their own pipes beside the server's, so the mount must be writable.
_OPTIONS: Final = ("nosuid", "nodev", "noexec")


def find(config: Config) -> tuple[DriverFile, ...]:
    """Return the directories for containers: the configured one, otherwise those of the running daemons."""
    if config.mps_pipe_directory:
        path = config.mps_pipe_directory
        return (_directory(path, path),) if os.path.isdir(path) else ()
    root = config.driver_root.rstrip("/")
    found = dict(_of_daemons())
    if _is_roots(root + PIPE_OF_MPS):
        found[PIPE_OF_MPS] = root + PIPE_OF_MPS
    return tuple(_directory(host_path, path) for path, host_path in sorted(found.items()))


def choose(found: Sequence[DriverFile], said: str) -> tuple[DriverFile | None, str]:
    """Return the directory that a container gets, and what keeps it from using MPS, or "".

    said: the container's CUDA_MPS_PIPE_DIRECTORY.
    """
    wanted = os.path.normpath(said) if said.startswith("/") else PIPE_OF_MPS
    chosen = next((each for each in found if each.container_path == wanted), None)
    if chosen:
        return chosen, ""
    if not found:
        remedy = (
            "start nvidia-cuda-mps-control -d as root; mps-pipe-directory in config.toml, where set, has to be there"
        )
        return None, f"MPS is asked for, but the host has no pipe directory of it: {remedy}"
    paths = ", ".join(quoted(each.container_path) for each in found)
    if len(found) == 1:
        return found[0], f"MPS: the host's pipe directory is {paths}; set {VARIABLE} to it in the container"
    return None, f"MPS: the host has several pipe directories; set {VARIABLE} in the container to one of {paths}"


def _directory(host_path: str, path: str) -> DriverFile:
    return DriverFile(
        host_path=host_path, container_path=path, options=_OPTIONS, capabilities=(FEATURE,), directory=True
    )


def _is_roots(path: str) -> bool:
    """Tell whether a path is a directory that root owns: in /tmp anybody could have made it, or a link to elsewhere."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == 0


def _of_daemons() -> Iterator[tuple[str, str]]:
    """Yield the pipe directories that root's MPS processes name in their environments: their name, and host path.

    A process can have any name and environment, so processes of other users are skipped, and processes in other mount
    namespaces, which belong to containers and have other paths.
    """
    try:
        own = os.stat("/proc/self/ns/mnt")
        pids = [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return
    for pid in pids:
        try:
            if name_of(pid) != _DAEMON or not _is_daemon(pid):
                continue
            namespace = os.stat(f"/proc/{pid}/ns/mnt")
            values = variable(pid, VARIABLE.encode())
            if not _is_daemon(pid):  # nor has it become one since: it may execute other programs meanwhile
                continue
        except OSError:  # the process has ended
            continue
        if (namespace.st_dev, namespace.st_ino) != (own.st_dev, own.st_ino):
            continue
        path = os.path.normpath(os.fsdecode(values[0])) if values and values[0].startswith(b"/") else ""
        if path and (place := _pipes(path)):
            yield path, place


def _is_daemon(pid: str) -> bool:
    """Tell whether a process of that name runs as root and executes the program of that name. Raises OSError.

    Any user can start a program with the set-user-ID bit by a link of any name, with an environment of their choice;
    while it asks for a password it runs as root. The link /proc/PID/exe has the program's own name.
    """
    if status_field(pid, b"Uid").split() != [b"0"] * 4:
        return False
    program = f"/proc/{pid}/exe"
    found = os.stat(program)
    if not is_trusted(found) or found.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return False
    return os.path.basename(os.fsencode(os.readlink(program))).startswith(_DAEMON)


def _pipes(path: str) -> str:
    """Return where a pipe directory is, "" for what is none that root's daemon has made or that others could move.

    It is mounted writable, so a wrong one is anything of the host. The daemon has made its pipe `control` in it.
    """
    place = os.path.realpath(path)
    try:
        control = os.lstat(f"{place}/{_CONTROL}")
        if control.st_uid != 0 or not (stat.S_ISFIFO(control.st_mode) or stat.S_ISSOCK(control.st_mode)):
            return ""
        if not _is_roots(place):
            return ""
        above = place
        while above != "/":
            above = os.path.dirname(above)
            found = os.lstat(above)
            if not is_trusted(found) and not (_is_roots(above) and found.st_mode & stat.S_ISVTX):
                return ""
    except OSError:
        return ""
    return place
