"""Take out of a container engine's files what `oci-gpu install` put in. A file that nobody touched since is as it was
before, to the byte. Nothing is restarted.

The executables stay, for other engines may call them; with --all they go too, unless running containers need them to be
stopped and removed.
"""  # noqa: D205  the help text of the command, wrapped by argparse

from __future__ import annotations

import os
import sys
from glob import glob

from oci_gpu_hook.admin.cli import install
from oci_gpu_hook.admin.engines import files, installations, known, mesos
from oci_gpu_hook.admin.install import executables_removal, uses
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import HookError, coded, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.admin.engines.model import Steps, Target

_LISTED: Final = 8
_CDI_FILES: Final = "oci-gpu-hook-*.yaml"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("engine", nargs="?", choices=known.INSTALLABLE)
    parser.add_argument("--all", action="store_true", help="out of every engine, with the executables that they call")
    install.add_common_arguments(parser)


def run(options: Namespace) -> int:
    """Uninstall, or show what uninstalling would do."""
    if bool(options.engine) == options.all:
        raise HookError(
            "uninstall",
            "takes an engine, or --all",
            f"name one of {', '.join(known.INSTALLABLE)}, or use --all",
            "OGH1902",
        )
    target = install.target_of(options)
    if options.all:
        return _everything(target, options)
    target = installations.informed(target, options.engine)
    record = installations.removed(target)
    install.carry_out(_steps(target, options.engine), record, dry_run=options.dry_run)
    return 0


def _steps(target: Target, engine: str) -> Steps:
    if engine == "mesos" and target.root == "/" and (users := uses.of(mesos.output_of(target))):
        why = f"is the launcher directory of {users[0]}"
        remedy = "wait until the agent's containers have ended, and restart it with its own --launcher_dir first"
        raise HookError(quoted(mesos.output_of(target)), why, remedy, "OGH1806")
    steps: Steps = known.module(engine).uninstall(target)
    return steps


def _everything(target: Target, options: Namespace) -> int:
    """Uninstall from every engine, and remove the executables. Return 1 if something could not be removed."""
    failed = found = False
    directories = {os.path.dirname(target.hook): None}
    for engine, each in _installed(target):
        directories[each.recorded.directory if each.recorded else os.path.dirname(target.hook)] = None
        try:
            steps = _steps(each, engine)
        except HookError as error:
            failed = True
            print(f"oci-gpu: error: {coded(str(error), error.code)}", file=sys.stderr)
            continue
        if steps.changes or steps.warnings:
            found = True
            print(f"{engine}:", file=sys.stderr if options.dry_run else sys.stdout)
            install.carry_out(steps, None, dry_run=options.dry_run)
    record = installations.emptied(target)
    if record and not failed and not options.dry_run:  # after a failure the next try needs it
        files.apply([record])
    for path in _cdi_files(target, options):
        found = True
        _remove(path, dry_run=options.dry_run)
    for directory in filter(None, directories):
        found |= _remove_executables(directory, target, options)
    if not found and not failed:
        print("Nothing is installed.")
    return 1 if failed else 0


def _installed(target: Target) -> Iterator[tuple[str, Target]]:
    """Yield every recorded installation, then each engine at its usual place, of which there may be no record."""
    target = target.replace(everything=True)
    recorded = installations.read(target)
    for each in recorded:
        place = {"file": each.file, "hooks_directory": each.hooks_directory, "output": each.output}
        yield each.engine, target.replace(**place, recorded=each)
    for engine in known.NAMES:
        if (engine, "", "", "") not in [each.place() for each in recorded] and _may_have_one(target, engine):
            yield engine, target


def _may_have_one(target: Target, engine: str) -> bool:
    return engine != "slurm" or os.path.isdir(target.path("/etc/slurm"))


def _remove_executables(directory: str, target: Target, options: Namespace) -> bool:
    """Remove the executables in a directory, or say who needs them; tell whether there were any."""
    there = executables_removal.installed(target.path(directory))
    users = _users(directory, options) if there and target.root == "/" else []
    if users:
        more = f" and {len(users) - _LISTED} more" if len(users) > _LISTED else ""
        text = f"the executables in {directory} stay, because these still need them: {', '.join(users[:_LISTED])}{more}"
        remedy = "run `oci-gpu uninstall --all` again when they have ended, or remove the directory then"
        print(f"oci-gpu: warning: {text}; {remedy}", file=sys.stderr)
        return True
    for path in there:
        _remove(path, dry_run=options.dry_run)
    if not options.dry_run:
        executables_removal.remove_directory(target.path(directory))
    return bool(there)


def _remove(path: str, *, dry_run: bool) -> None:
    if not dry_run:
        os.unlink(path)
    print(f"would remove {path}" if dry_run else f"removed {path}", file=sys.stderr if dry_run else sys.stdout)


def _users(directory: str, options: Namespace) -> list[str]:
    from oci_gpu_hook.apply.journal import reader

    found = uses.of(directory)
    config, _ = configs.load_or_defaults(options.config)
    living = [entry for entry in reader.read_all(configs.of_this_user(config)) if entry.is_alive()]
    return [*dict.fromkeys([*found, *(f"container {quoted(entry.id)}" for entry in living)])]


def _cdi_files(target: Target, options: Namespace) -> list[str]:
    config, _ = configs.load_or_defaults(options.config)
    found = [path for each in config.cdi_spec_dirs for path in glob(os.path.join(target.path(each), _CDI_FILES))]
    return sorted({os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in found})
