"""Teach a container engine to give containers their GPUs. What is in its files stays; what is changed is kept beside as
FILE.before-oci-gpu-hook, and `oci-gpu uninstall` puts it back. Nothing is restarted.
"""  # noqa: D205  the help text of the command, wrapped by argparse

from __future__ import annotations

import os
import sys

from oci_gpu_hook.admin.engines import docker_swarm, files, installations, known, mesos, slurm
from oci_gpu_hook.admin.engines.model import BACKUP_SUFFIX, Change, Steps, Target
from oci_gpu_hook.admin.install import executables, place
from oci_gpu_hook.admin.install.programs import find_real_runtime
from oci_gpu_hook.admin.install.trusted_files import check_owners, make_directory
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.config.load import DEFAULT_PATH
from oci_gpu_hook.base.errors import HookError, one_line, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Final

# The other engines are given the configuration's path: in the hook's arguments, or in their own stub.
_WITHOUT_CONFIG: Final = ("docker", "containerd", "slurm", "resident")


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("engine", choices=known.INSTALLABLE)
    add_common_arguments(parser)
    parser.add_argument("--default", action="store_true", help="make oci-gpu the default runtime (docker only)")
    parser.add_argument("--runtime", action="store_true", help="make oci-gpu-runtime Podman's runtime (podman only)")
    parser.add_argument("--also-as", metavar="NAME", default="", help="a second name for it: nvidia (docker only)")
    parser.add_argument(
        "--swarm",
        metavar="KIND",
        nargs="?",
        const=docker_swarm.KIND,
        default="",
        help="have Docker Swarm hand out the GPUs, by the name KIND (%(const)s); with --default (docker only)",
    )
    parser.add_argument("--real-runtime", metavar="FILE", default="", help="the OCI runtime behind oci-gpu-runtime")


def add_common_arguments(parser: ArgumentParser) -> None:
    """Describe the options that uninstall has too."""
    parser.add_argument("--dry-run", action="store_true", help="show what would change, as a diff, and change nothing")
    parser.add_argument("--root", metavar="DIR", default="/", help="of an image that is being built (default: /)")
    parser.add_argument("--file", metavar="FILE", default="", help="the engine's configuration file, if not the usual")
    parser.add_argument("--hooks-directory", metavar="DIR", default="", help="of podman and crio, if not the usual")
    parser.add_argument("--directory", metavar="DIR", default="", help="where the executables are, or go")
    parser.add_argument("--launcher-dir", metavar="DIR", default="", help="of mesos: the agent's (/usr/libexec/mesos)")
    parser.add_argument("--output", metavar="DIR", default="", help="of mesos: the launcher directory to make")


def run(options: Namespace) -> int:
    """Install, or show what installing would do."""
    if options.default and options.engine != "docker":
        remedy = "name the runtime or the RuntimeClass per container, or edit the engine's configuration by hand"
        raise HookError("--default", f"is for docker, not {options.engine}", remedy, "OGH1902")
    if options.runtime and options.engine != "podman":
        raise HookError(
            "--runtime", f"is for podman, not {options.engine}", "leave it out: that engine has it anyway", "OGH1902"
        )
    if options.also_as and options.engine != "docker":
        remedy = "name the runtime or the RuntimeClass that is installed"
        raise HookError("--also-as", f"is for docker, not {options.engine}", remedy, "OGH1902")
    if options.swarm and options.engine != "docker":
        raise HookError("--swarm", f"is for docker, not {options.engine}", "leave it out", "OGH1902")
    check_config(options)
    target = installations.informed(target_of(options), options.engine)
    steps = known.module(options.engine).install(target)
    record = installations.added(target, options.engine)
    files.check([*steps.changes, *([record] if record else [])])
    warnings = [*steps.warnings]
    if options.engine == "mesos":
        front, helper = mesos.front_of(target)
        if not options.dry_run:
            make_directory(os.path.dirname(front))
            warnings += check_owners(os.path.dirname(front))
            executables.write_mesos_front(front, helper, config=os.path.abspath(options.config))
            print(f"installed {front} before {helper}")
    elif options.root == "/" and not options.dry_run:
        warnings += executables.write(options.directory, options.real_runtime).warnings
        if options.engine == "slurm" and not os.path.exists(slurm.executable(target)):  # else that was written, too
            executables.write_slurm(options.directory, options.real_runtime)
    elif not os.access(target.path(target.hook), os.X_OK):
        where = f" in {options.root}" if options.root != "/" else ""
        warnings.append(f"{target.hook} is not installed yet{where}; `oci-gpu hook-path` there installs it")
    carry_out(steps.replace(warnings=tuple(warnings)), record, dry_run=options.dry_run)
    return 0


def check_config(options: Namespace) -> None:
    """Raise HookError for a configuration that the engine would not have containers started with."""
    if options.config == DEFAULT_PATH:
        return
    if options.engine in _WITHOUT_CONFIG:
        why = f"cannot be used with {options.engine}, which calls the executables without options"
        raise HookError(f"--config {quoted(options.config)}", why, f"make the file {DEFAULT_PATH}", "OGH1902")
    configs.load(options.config)


def target_of(options: Namespace) -> Target:
    """Return where the engine is to be taught. Raises HookError for a real runtime that is none."""
    in_image = options.root != "/"
    directory = options.directory or (place.SYSTEM_DIRECTORY if in_image else place.default_directory())
    directory = directory if in_image else os.path.abspath(directory)
    real_runtime = "" if in_image else find_real_runtime(getattr(options, "real_runtime", ""))
    has_runtime = in_image or real_runtime
    return Target(
        root=os.path.abspath(options.root),
        hook=f"{directory}/oci-gpu-hook",
        runtime=f"{directory}/oci-gpu-runtime" if has_runtime else "",
        file=options.file if in_image or not options.file else os.path.abspath(options.file),
        hooks_directory=os.path.abspath(options.hooks_directory) if options.hooks_directory else "",
        default=getattr(options, "default", False),
        also_as=getattr(options, "also_as", ""),
        swarm=getattr(options, "swarm", ""),
        as_runtime=getattr(options, "runtime", False),
        real_runtime=real_runtime,
        launcher_directory=options.launcher_dir,
        output=os.path.abspath(options.output) if options.output and not in_image else options.output,
        config=options.config if options.config == DEFAULT_PATH else os.path.abspath(options.config),
    )


def carry_out(steps: Steps, record: Change | None, *, dry_run: bool) -> None:
    """Make the changes and say what was done and what is left to do, or show them. record: that of installations."""
    for warning in steps.warnings:
        print(one_line(f"oci-gpu: warning: {warning}"), file=sys.stderr)
    if not dry_run:
        files.apply([*steps.changes, *([record] if record else [])])
    if not steps.changes:
        print("Nothing to change.")
    elif dry_run:
        print(files.diff(steps.changes), end="")
    else:
        for change in steps.changes:
            done = "removed" if change.after is None else "made" if change.before is None else "changed"
            kept = f" (before: {change.path}{BACKUP_SUFFIX})" if change.backup and change.before is not None else ""
            print(f"{done} {change.path}{kept}")
    for note in steps.notes:
        print(f"- {note}", file=sys.stderr if dry_run else sys.stdout)
