"""The values of an installation: its target, its changes, and findings."""

from __future__ import annotations

import os

from oci_gpu_hook.base.config.load import DEFAULT_PATH
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

RUNTIME_NAME: Final = "oci-gpu"
BACKUP_SUFFIX: Final = ".before-oci-gpu-hook"


class Installation(Record):
    """A finished installation, as the record keeps it: the engine, and the options by which it is found again.

    directory: of the executables. file, hooks_directory, output: absolute paths, "" for the usual ones. also_as:
    Docker's second name for the runtime.
    """

    engine: str
    directory: str = ""
    file: str = ""
    hooks_directory: str = ""
    output: str = ""
    also_as: str = ""

    def place(self) -> tuple[str, ...]:
        """Return what distinguishes installations into one engine."""
        return self.engine, self.file, self.hooks_directory, self.output


class Target(Record):
    """Where this project is installed into an engine.

    root: of the file system that has the engine, "/" or that of an image being built. hook, runtime: the executables,
    as paths in it; runtime is "" where there is no runc and no crun. file: the engine's configuration file where it is
    not the usual one. hooks_directory: the same for hooks. default: make the runtime the engine's default. also_as: a
    second name for it, in Docker. swarm: the kind of resources by which Docker Swarm hands out GPUs, "" for none.
    as_runtime: make it Podman's runtime. real_runtime: the one behind it. launcher_directory, output: for Mesos, its
    own directory and the new one. config: this project's configuration, on this machine. recorded: this installation
    as the record has it, None if it has none; others: the other ones there; everything: all of them go.
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
    recorded: Installation | None = None
    others: tuple[Installation, ...] = ()
    everything: bool = False

    def path(self, path: str) -> str:
        """Return this process's path for a path of the target's file system."""
        return os.path.join(self.root, path.lstrip("/"))


class Change(Record):
    """A file that is created, replaced or removed. before, after: its contents, None if there is no such file.

    link: the file is a symbolic link, and the contents are its target. backup: keep the old file.
    """

    path: str
    before: bytes | None
    after: bytes | None
    link: bool = False
    backup: bool = False


class Steps(Record):
    """The steps of an installation. notes: what is left to the operator, such as a restart. warnings: problems."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Finding(Record):
    """A finding of a check. ok: whether all is well; remedy: what to do if not."""

    ok: bool
    text: str
    remedy: str = ""
