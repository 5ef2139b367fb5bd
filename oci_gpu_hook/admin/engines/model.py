"""The values of an installation: where it goes, what it changes, and what a check finds."""

from __future__ import annotations

import os

from oci_gpu_hook.base.config.load import DEFAULT_PATH
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

RUNTIME_NAME: Final = "oci-gpu"
BACKUP_SUFFIX: Final = ".before-oci-gpu-hook"


class Target(Record):
    """Where an engine is to be taught this project.

    root: of the file system that has the engine, "/" or that of an image being built. hook, runtime: the executables,
    as paths in it; runtime is "" where there is no runc and no crun. file: the engine's configuration file where it
    is not the usual one. hooks_directory: likewise. default: make the runtime the engine's default. also_as: a second
    name for it, in Docker. swarm: the kind of resources by which Docker Swarm hands out GPUs, "" for none.
    as_runtime: make it Podman's runtime. real_runtime: the one behind it. launcher_directory, output: of Mesos, its
    own and the one to make of it. config: this project's configuration, on this machine.
    """

    root: str = "/"
    hook: str
    runtime: str
    file: str = ""
    hooks_directory: str = ""
    default: bool = False
    also_as: str = ""
    swarm: str = ""
    as_runtime: bool = False
    real_runtime: str = ""
    launcher_directory: str = ""
    output: str = ""
    config: str = DEFAULT_PATH

    def path(self, path: str) -> str:
        """Return where a path of the target's file system is for this process."""
        return os.path.join(self.root, path.lstrip("/"))


class Change(Record):
    """A file that is made, replaced or removed. before, after: its contents, None where there is no such file.

    link: the change is about a symbolic link, and the contents are its target. backup: keep what was there before.
    """

    path: str
    before: bytes | None
    after: bytes | None
    link: bool = False
    backup: bool = False


class Steps(Record):
    """What is to be done. notes: what is left to the operator, such as a restart. warnings: what may disappoint."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Finding(Record):
    """What a check found. ok: whether all is well; remedy: what to do where it is not."""

    ok: bool
    text: str
    remedy: str = ""
