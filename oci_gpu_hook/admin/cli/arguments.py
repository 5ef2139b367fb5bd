"""The parser of the command line of `oci-gpu`, from which help, shell completion and man pages are made."""

from __future__ import annotations

import argparse  # noqa: TID253
import sys

from oci_gpu_hook import __version__
from oci_gpu_hook.admin.cli import option, overview, usual
from oci_gpu_hook.admin.cli.commands import COMMANDS
from oci_gpu_hook.base.errors import one_line, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final, NoReturn

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
    top = _top()
    below = top.add_subparsers(metavar="COMMAND", prog=top.prog, parser_class=Parser)
    for name in commands:
        module = usual.module_of(name)
        command = below.add_parser(
            name,
            help=COMMANDS[name],
            description=module.__doc__,
            epilog=overview.examples(name),
            formatter_class=Formatter,
        )
        _describe(command, module)
        command.set_defaults(run=module.run)
    return top


def _describe(parser: argparse.ArgumentParser, module: Any) -> None:
    """Describe the command line of a command's module."""
    if options := getattr(module, "OPTIONS", None):
        option.describe(parser, options)
    elif found := getattr(module, "ACTIONS", None):
        actions = parser.add_subparsers(metavar="ACTION", required=True)
        for name, action in found.items():
            own = actions.add_parser(
                name, help=action.help, description=action.run.__doc__, formatter_class=parser.formatter_class
            )
            option.describe(own, action.options)
            own.set_defaults(action=action.run)
    else:
        module.add_arguments(parser)


def unknown(command: str, commands: Sequence[str], before: Sequence[str]) -> int:
    """Complain about a command that does not exist, or a wrong option before it; return the exit status."""
    from oci_gpu_hook.admin.cli import hints

    top = _top()
    for word in before:
        if word.startswith("-") and word.partition("=")[0] not in hints.options(top):
            top.error(f"unrecognized arguments: {word}")
    hint = hints.for_command(command, commands)
    print(f"oci-gpu: error: there is no command {quoted(command)}; {hint}`oci-gpu help` lists them", file=sys.stderr)
    return 2


def _top() -> _Top:
    top = _Top(prog="oci-gpu", usage=overview.USAGE, description=overview.DESCRIPTION, formatter_class=Formatter)
    top.add_argument("-V", "--version", action="version", version=f"oci-gpu {__version__}")
    option.describe(top, usual.GLOBAL)
    return top


class Parser(argparse.ArgumentParser):
    """A parser that suggests what a mistyped option or value may have been meant for."""

    def error(self, message: str) -> NoReturn:
        """Complain, and end with exit status 2."""
        from oci_gpu_hook.admin.cli import hints

        self._complain(message, hints.for_complaint(message, self))

    def _complain(self, message: str, hint: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {one_line(message)}{one_line(hint)}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write it. Raises OSError, which argparse would pass over, if that cannot be: output may be unbuffered."""
        (file or sys.stderr).write(message)


class _Top(Parser):
    """The parser of `oci-gpu` itself, whose help is the overview of all commands."""

    def error(self, message: str) -> NoReturn:
        """Complain in the command's name: argparse has this parser refuse words that the command's does not know."""
        from oci_gpu_hook.admin.cli import hints

        if below := hints.commands_of(self):
            next(iter(below.values())).error(message)
        self._complain(message, hints.for_top(message, self, hints.commands_of(parser(tuple(COMMANDS)))))

    def format_help(self) -> str:
        """Return the overview."""
        return overview.text()


class Formatter(argparse.HelpFormatter):
    """Wraps the paragraphs of descriptions, and leaves examples as they are."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=overview.columns() - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(overview.EXAMPLES_TITLE):
            return text
        return "\n\n".join(super(Formatter, self)._fill_text(part, width, indent) for part in text.split("\n\n"))
