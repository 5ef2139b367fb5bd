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
    top = _top()
    for word in before:
        if word.startswith("-") and word.partition("=")[0] not in _options(top):
            top.error(f"unrecognized arguments: {word}")
    from oci_gpu_hook.request import suggestions

    nearest = suggestions.word(command, commands)
    hint = f"did you mean {nearest!r}? " if nearest else ""
    print(f"oci-gpu: error: there is no command {quoted(command)}; {hint}`oci-gpu help` lists them", file=sys.stderr)
    return 2


def _top() -> argparse.ArgumentParser:
    top = _Top(prog="oci-gpu", usage=overview.USAGE, description=overview.DESCRIPTION, formatter_class=Formatter)
    top.add_argument("-V", "--version", action="version", version=f"oci-gpu {__version__}")
    option.describe(top, usual.GLOBAL)
    return top


class Parser(argparse.ArgumentParser):
    """A parser that suggests what a mistyped option or value may have been meant for."""

    def error(self, message: str) -> NoReturn:
        """Complain, and end with exit status 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {one_line(message)}{self._hint(message)}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write it. Raises OSError, which argparse would pass over, if that cannot be: output may be unbuffered."""
        (file or sys.stderr).write(message)

    def _hint(self, message: str) -> str:
        from oci_gpu_hook.request import suggestions

        _, is_unknown, words = message.partition("unrecognized arguments: ")
        _, is_choice, value = message.partition("invalid choice: ")
        nearest = ""
        if is_unknown and words.startswith("-"):
            given = words.split()[0].partition("=")[0]
            nearest = suggestions.word(given, _options(self)) or _long_of(given, _options(self))
        elif is_choice:
            choices = [str(choice) for action in self._actions for choice in action.choices or ()]
            nearest = suggestions.word(value.partition(" (choose")[0].strip("'"), choices)
        return f"; did you mean {nearest!r}?" if nearest else ""


class _Top(Parser):
    """The parser of `oci-gpu` itself, whose help is the overview of all commands."""

    def format_help(self) -> str:
        """Return the overview."""
        return overview.text()


def _long_of(short: str, options: Sequence[str]) -> str:
    """Return the long option that begins with the letter of a short one, as --quiet of -q; "" if none or several do."""
    found = {option for option in options if short[1:2].isalpha() and option.startswith(f"-{short[:2]}")}
    return found.pop() if len(found) == 1 else ""


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """Return the options of a parser and of all parsers below it."""
    found = [flag for action in parser._actions for flag in action.option_strings]  # noqa: SLF001  no other way
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            found += [flag for each in action.choices.values() for flag in _options(each)]
    return found


class Formatter(argparse.HelpFormatter):
    """Wraps the paragraphs of descriptions, and leaves examples as they are."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=overview.columns() - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(overview.EXAMPLES_TITLE):
            return text
        return "\n\n".join(super(Formatter, self)._fill_text(part, width, indent) for part in text.split("\n\n"))
