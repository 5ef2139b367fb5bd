"""The cgroup of a container's MPS daemon, by which all of its processes are found and ended.

With systemd it is that of a transient service; without, one of this project's own below the root of a hierarchy: v2, or
else the first of v1 that is there.
"""

from __future__ import annotations

import os
from time import sleep

from oci_gpu_hook.base.errors import ApplyError, reason
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.locks import wait_until
from oci_gpu_hook.base.syscalls import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_ROOT: Final = "/sys/fs/cgroup"
_HIERARCHIES: Final = ("", "unified", "systemd", "pids", "freezer")
_OWN: Final = "oci-gpu-hook"
_PAUSE: Final = 0.002


def unit_of(name: str) -> str:
    """Return the name of the systemd unit of a daemon."""
    return f"oci-gpu-mps-{name}.service"


def enter(name: str) -> None:
    """Move this process into the daemon's own cgroup, made if it is missing. Raises ApplyError."""
    why = "no cgroup hierarchy is mounted at /sys/fs/cgroup"
    for hierarchy in _HIERARCHIES:
        root = f"{_ROOT}/{hierarchy}".rstrip("/")
        if not os.access(f"{root}/cgroup.procs", os.F_OK):
            continue
        try:
            for path in (f"{root}/{_OWN}", f"{root}/{_OWN}/{name}"):
                try:
                    os.mkdir(path, 0o755)
                except FileExistsError:
                    pass
            _write(f"{root}/{_OWN}/{name}/cgroup.procs", b"0")
        except OSError as error:
            why = f"{root}: {reason(error)}"
            continue
        return
    remedy = "let the hook write to the host's cgroups, run systemd, or set [sharing] enforce"
    raise ApplyError("cannot make a cgroup for the MPS daemon", why, f'{remedy} = "none"', "OGH1510")


def is_populated(name: str) -> bool:
    """Tell whether any process of the daemon lives."""
    return any(_processes(path) for path in _paths(name))


def end(name: str, patience: float) -> bool:
    """Kill all processes of a daemon, and remove its own cgroup; tell whether nothing is left."""

    def is_over() -> bool:
        for path in _paths(name):
            _kill(path)
        return not is_populated(name)

    if not wait_until(is_over, patience):
        return False
    for path in _paths(name):
        if path.endswith(f"/{_OWN}/{name}"):  # systemd removes that of its unit
            try:
                os.rmdir(path)
            except OSError:
                sleep(_PAUSE)
                return not os.path.isdir(path)
    return True


def _paths(name: str) -> Iterator[str]:
    for hierarchy in _HIERARCHIES:
        for below in (f"{_OWN}/{name}", f"system.slice/{unit_of(name)}"):
            path = f"{_ROOT}/{hierarchy}/{below}" if hierarchy else f"{_ROOT}/{below}"
            if os.path.isdir(path):
                yield path


def _kill(path: str) -> None:
    try:
        _write(f"{path}/cgroup.kill", b"1")  # Linux 5.14: none can escape by a fork
    except OSError:
        for pid in _processes(path):
            try:
                os.kill(pid, SIGKILL)
            except OSError:
                continue


def _processes(path: str) -> list[int]:
    try:
        return [int(pid) for pid in read_file(f"{path}/cgroup.procs").split() if pid != b"0"]
    except (OSError, ValueError):
        return []


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
