"""Finds the running containers of all engines, by the state that runc and crun keep of each.

runc: ROOT/ID/state.json (libcontainer/container_linux.go, State); crun: ROOT/ID/status (src/libcrun/status.c). Engines
give their runtimes their own roots.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.document import parse
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.processes import lives
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.base.trust import read_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

# The roots that runc and crun have by themselves and under Podman and CRI-O, Docker, containerd, and Podman's users.
_ROOTS: Final = (
    "run/runc",
    "run/crun",
    "run/docker/runtime-*/moby",
    "run/containerd/runc/*",
    "run/user/*/runc",
    "run/user/*/crun",
)


class Running(Record):
    """A running container: its id, its first process, and where its bundle and its root directory are.

    started: of the process, in clock ticks since boot.
    """

    id: str
    pid: int
    started: int
    bundle: str
    rootfs: str


def everything(root: str = "/", more: tuple[str, ...] = ()) -> Iterator[Running]:
    """Yield the running containers that any runtime knows. root: of the host's file system. more: further roots.

    A state that cannot be read, or that another user could have written, is passed over.
    """
    usual = [directory for pattern in _ROOTS for directory in _matching(root.rstrip("/"), pattern)]
    for directory in (*usual, *more):
        for name in _names(directory):
            found = _read(f"{directory}/{name}", name)
            if found and lives(found.pid, found.started):
                yield found


def _matching(root: str, pattern: str) -> list[str]:
    """Return the paths below a directory that match a pattern; a `*` is any rest of a name, as the module glob has it.

    That module costs as much to import as Python to start.
    """
    found = [root]
    for part in pattern.split("/"):
        begin, star, _ = part.partition("*")
        found = [
            f"{directory}/{name}" for directory in found for name in (_begun(directory, begin) if star else [part])
        ]
    return found


def _begun(directory: str, begin: str) -> list[str]:
    return [name for name in _names(directory) if name.startswith(begin) and (begin or name[0] != ".")]


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _read(directory: str, name: str) -> Running | None:
    for file, read in (("state.json", _of_runc), ("status", _of_crun)):
        try:
            return read(name, parse(read_trusted(f"{directory}/{file}", limits.ENGINE_RECORD), file))
        except FileNotFoundError:
            continue
        except (OSError, HookError, KeyError, TypeError, ValueError, AttributeError):
            return None
    return None


def _of_runc(name: str, document: Any) -> Running:
    config = document["config"]
    labels = dict(label.partition("=")[::2] for label in config["labels"])
    return Running(
        id=name,
        pid=int(document["init_process_pid"]),
        started=int(document["init_process_start"]),
        bundle=str(labels["bundle"]),
        rootfs=str(config["rootfs"]),
    )


def _of_crun(name: str, document: Any) -> Running:
    return Running(
        id=name,
        pid=int(document["pid"]),
        started=int(document["process-start-time"]),
        bundle=str(document["bundle"]),
        rootfs=str(document["rootfs"]),
    )
