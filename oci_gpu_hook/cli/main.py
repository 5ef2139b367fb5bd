"""`oci-gpu [--config FILE] COMMAND`: finds the command's module and runs it."""

from __future__ import annotations

import argparse  # noqa: TID253
import sys
from importlib import import_module

from oci_gpu_hook import __version__
from oci_gpu_hook.config import DEFAULT_PATH
from oci_gpu_hook.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

# Each is a module of this package with SUMMARY, add_arguments(parser) and run(options) -> exit status.
COMMANDS: Final = ("request", "plan", "info", "verify", "repair", "leases", "simulate", "hook-path", "install", "uninstall")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit status: 0 done, 1 failed with a reason on stderr, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except HookError as error:
        print(f"oci-gpu: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output, such as head(1), has seen enough
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oci-gpu", description="Look at, explain and mend what containers get of the host's GPUs."
    )
    parser.add_argument("--version", action="version", version=f"oci-gpu {__version__}")
    parser.add_argument("--config", metavar="FILE", default=DEFAULT_PATH, help="configuration (default: %(default)s)")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = import_module(f"oci_gpu_hook.cli.{name.replace('-', '_')}")
        command = commands.add_parser(name, help=module.SUMMARY, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
