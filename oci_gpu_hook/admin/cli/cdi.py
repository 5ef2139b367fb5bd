"""Write this host's GPUs as CDI specifications, for engines that read them; inspect those of any vendor.

With a specification, `podman run --device nvidia.com/gpu=0`, `docker run --device nvidia.com/gpu=all` and Kubernetes
give GPUs although no runtime or hook of this project is registered.
"""

from __future__ import annotations

import os
import sys

from oci_gpu_hook.admin.cli.option import Action, Option
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.document import dump
from oci_gpu_hook.base.errors import DriverError, HookError, one_line, quoted, reason
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.cdi.spec_files import writing
from oci_gpu_hook.devices.nvidia.cdi_classes import CLASSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.spec_files.directories import Registry
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.devices.nvidia.specification import Form

DIRECTORY: Final = "/var/run/cdi"
_NAMES: Final = ("index", "uuid", "both")
_CONTENT: Final = (
    Option(flag="--name", choices=_NAMES, default="both", help="names of devices (default: %(default)s)"),
    Option(flag="--capabilities", metavar="LIST", default="all", help="driver capabilities (default: %(default)s)"),
    Option(flag="--additional-gids", is_switch=True, help="with the groups of nodes; engines must know CDI 0.7.0"),
    Option(flag="--hook-path", metavar="FILE", help="the hook (default: the installed one)"),
)
_KINDS: Final = (*vendors.KINDS, *vendors.SEEN)


def run(options: Namespace) -> int:
    """Carry out the action."""
    status: int = options.action(options)
    return status


def _generate(options: Namespace) -> int:
    """Print the specification of this host's devices, in the lowest CDI version that it needs. Nothing is installed.

    Exit status 1 if the host has no device of the class.
    """
    from oci_gpu_hook.admin.cdi import generate

    text_form = options.format or ("json" if options.output.endswith(".json") else "yaml")
    config = configs.load(options.config)
    if options.kind in vendors.SEEN:
        made = generate.seen_specification_of(options.kind, config, options.name)
    else:
        inventory, capabilities, form = _content(options, config, installs=False)
        made = generate.specification_of(inventory, config, options.device_class, capabilities, form)
        _tell(inventory.warnings)
    if not made.devices:
        raise HookError(
            made.kind, "this host has no device of that class", "see `oci-gpu info` for what it has", "OGH1905"
        )
    generate.require_hook(made)
    written = writing.write(made, text_form)
    if options.output:
        from oci_gpu_hook.base.files import replace_file

        try:
            replace_file(options.output, written.encode(), mode=0o644)
        except OSError as error:
            remedy = "name a file in a directory that is there and that you may write to"
            why = f"cannot be written: {reason(error)}"
            raise HookError(f"file {quoted(options.output)}", why, remedy, "OGH1802") from None
    else:
        sys.stdout.write(written)
    return 0


def _content(options: Namespace, config: Config, *, installs: bool) -> tuple[Inventory, tuple[str, ...], Form]:
    """Return the arguments for specifications, from the options of `_CONTENT`."""
    from oci_gpu_hook.admin.cdi import generate

    try:
        inventory = generate.inventory_of(config)
    except DriverError as error:
        others = [kind for kind in vendors.SEEN if vendors.seen(kind, config)]
        if not others:
            raise
        remedy = f"name the kind of its other GPUs: --kind {' or '.join(others)}"
        raise DriverError(error.what, error.why, remedy, error.code) from None
    capabilities = generate.capabilities_of(options.capabilities)
    groups = options.additional_gids
    form = generate.form_of(options.name, options.config, options.hook_path, with_groups=groups, installs=installs)
    return inventory, capabilities, form


def _refresh(options: Namespace) -> int:
    """Write a file for each class of devices that this host has, and remove this project's files of other classes.

    Files that have not changed are not written. Run it after a change of the driver, the MIG layout or the GPUs.
    """
    from oci_gpu_hook.admin.cdi import refresh
    from oci_gpu_hook.admin.cdi.alone import Alone

    config = configs.load(options.config)
    with Alone(config, options.output):
        if options.kind in vendors.SEEN:
            outcomes = refresh.refresh_kind(options.kind, config, options.output, options.name)
        else:
            inventory, capabilities, form = _content(options, config, installs=True)
            outcomes = refresh.refresh(inventory, config, options.output, capabilities, form)
            _tell(inventory.warnings)
    if options.json:
        print(dump([dict(outcome.__dict__) for outcome in outcomes]).decode())
        return 0
    for outcome in outcomes:
        devices = f", {_counted(outcome.devices)}" if outcome.devices else ""
        print(f"{outcome.path}: {outcome.outcome}{devices}")
    return 0


def _list(options: Namespace) -> int:
    """Show the devices of all specification files, the file that each comes from, and problems of files.

    The directories are those of `[cdi] spec-dirs`. Exit status 1 if a file is broken or two have the same device.
    """
    from oci_gpu_hook.devices.cdi.spec_files import directories

    config = configs.load(options.config)
    registry = directories.read(config.cdi_spec_dirs)
    if options.json:
        print(dump(_registry_to_json(registry)).decode())
    else:
        _show(registry)
    problems = [problem for file in registry.files for problem in file.problems]
    _tell((*registry.problems, *problems))
    for name, paths in registry.conflicts.items():
        files = " and ".join(map(quoted, paths))
        _tell([f"{quoted(name)} is in {files}: engines refuse it; remove one of the files"])
    return 1 if problems or registry.problems or registry.conflicts else 0


def _show(registry: Registry) -> None:
    from rich.table import Table

    from oci_gpu_hook.admin.cli.console import console

    if not registry.devices:
        print("no devices: no specification file has any")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("DEVICE", "CDI", "FILE"):
        table.add_column(title, overflow="fold")
    for name, provided in sorted(registry.devices.items()):
        table.add_row(name, provided.specification.cdi_version, one_line(provided.path))
    console().print(table)


def _registry_to_json(registry: Registry) -> dict[str, object]:
    return {
        "devices": [
            {"name": name, "cdiVersion": provided.specification.cdi_version, "file": provided.path}
            for name, provided in sorted(registry.devices.items())
        ],
        "conflicts": [{"name": name, "files": list(paths)} for name, paths in sorted(registry.conflicts.items())],
        "problems": [*registry.problems, *(problem for file in registry.files for problem in file.problems)],
    }


def _validate(options: Namespace) -> int:
    """Check specification files against all rules of CDI 1.1.0.

    Each problem is shown with its line; the exit status is then 1.
    """
    from oci_gpu_hook.devices.cdi.spec_files import reading

    status = 0
    for path in options.files:
        name = "stdin" if path == "-" else path
        found = reading.parse(_contents(path), is_json=path.endswith(".json"))
        for problem in found.problems:
            print(f"{quoted(name)}: {problem}")
            status = 1
        if found.specification:
            version = found.specification.cdi_version
            devices = _counted(len(found.specification.devices))
            print(f"{quoted(name)}: valid: {found.specification.kind}, {devices}, CDI {version}")
    return status


def _counted(devices: int) -> str:
    return "1 device" if devices == 1 else f"{devices} devices"


def _contents(path: str) -> bytes:
    from oci_gpu_hook.devices.cdi.spec_files.text import LARGEST

    try:
        fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        with open(fd, "rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise HookError(f"file {quoted(path)}", reason(error), "name a file that can be read", "OGH1904") from None


def _tell(warnings: tuple[str, ...] | list[str]) -> None:
    for warning in warnings:
        print(one_line(f"oci-gpu: warning: {warning}"), file=sys.stderr)


ACTIONS: Final = {
    "generate": Action(
        help="print this host's specification",
        run=_generate,
        options=(
            Option(flag="--output", metavar="FILE", help="write it there, in one step"),
            Option(
                flag="--format", choices=writing.FORMATS, default=None, help="default: by the file's name, else yaml"
            ),
            *_CONTENT,
            Option(
                flag="--class",
                name="device_class",
                choices=CLASSES,
                default="gpu",
                help="of devices (default: %(default)s)",
            ),
            Option(flag="--kind", choices=_KINDS, help="of another vendor's devices, as the kernel lists them"),
        ),
    ),
    "refresh": Action(
        help="bring this host's files up to date",
        run=_refresh,
        options=(
            Option(flag="--output", metavar="DIR", default=DIRECTORY, help="directory (default: %(default)s)"),
            Option(flag="--json", is_switch=True, help="print JSON (schemas/cdi-refresh.schema.json)"),
            Option(flag="--kind", choices=_KINDS, help="only this kind's file, instead of NVIDIA's"),
            *_CONTENT,
        ),
    ),
    "list": Action(
        help="show the devices that specifications have",
        run=_list,
        options=(Option(flag="--json", is_switch=True, help="print JSON (schemas/cdi-list.schema.json)"),),
    ),
    "validate": Action(
        help="check files against all rules",
        run=_validate,
        options=(Option(flag="files", metavar="FILE", nargs="+", help="a specification, - for stdin"),),
    ),
}
