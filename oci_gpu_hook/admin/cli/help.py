"""Show the help of a command, or list the commands."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Final

SUMMARY: Final = "show the help of a command, or list the commands"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("command", metavar="COMMAND", nargs="*", help="such as: leases release")


def run(options: Namespace) -> int:
    """Show it."""
    from oci_gpu_hook.admin.cli.main import main

    return main([*options.command, "--help"])
