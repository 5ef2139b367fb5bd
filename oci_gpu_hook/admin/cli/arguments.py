"""The parser of the command line of `oci-gpu`, from which help, shell completion and man pages are made."""

from __future__ import annotations

import argparse  # noqa: TID253
from importlib import import_module

from oci_gpu_hook import __version__
from oci_gpu_hook.admin.cli.examples import EXAMPLES
from oci_gpu_hook.base.config.load import DEFAULT_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

DESCRIPTION: Final = "Look at, explain and mend what containers get of the host's GPUs."
_EXAMPLES: Final = "examples:"
_WITH_VALUE: Final = ("--config",)


def command_of(arguments: Sequence[str]) -> str:
    """Return the command among the arguments, the first word that is not a global option; "" if there is none."""
    words = iter(arguments)
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def parser(commands: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser for these commands; only their modules are imported."""
    top = argparse.ArgumentParser(
        prog="oci-gpu", description=DESCRIPTION, epilog=examples(""), formatter_class=Formatter
    )
    top.add_argument("--version", action="version", version=f"oci-gpu {__version__}")
    top.add_argument("--config", metavar="FILE", default=DEFAULT_PATH, help="configuration (default: %(default)s)")
    top.add_argument("--debug", action="store_true", help="show where in the code an error comes from")
    below = top.add_subparsers(metavar="COMMAND", required=True)
    for name in commands:
        module = import_module(f"oci_gpu_hook.admin.cli.{name.replace('-', '_')}")
        command = below.add_parser(
            name, help=module.SUMMARY, description=module.__doc__, epilog=examples(name), formatter_class=Formatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return top


def examples(command: str) -> str | None:
    """Return a command's examples in the form of its help, None if it has none."""
    found = EXAMPLES.get(command)
    if not found:
        return None
    width = max(len(line) for line, _ in found)
    return "\n".join((_EXAMPLES, *(f"  {line:{width}}  {meaning}" for line, meaning in found)))


class Formatter(argparse.HelpFormatter):
    """Wraps the paragraphs of descriptions, and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(_EXAMPLES):
            return text
        return "\n\n".join(super(Formatter, self)._fill_text(part, width, indent) for part in text.split("\n\n"))
