"""Converts the parser to plain values, from which shell completion and man pages are made."""

from __future__ import annotations

import argparse  # noqa: TID253

from oci_gpu_hook.admin.cli import arguments
from oci_gpu_hook.admin.cli.commands import COMMANDS
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Argument(Record):
    """An option (flags has its names) or a positional argument (flags is empty).

    value: the name of its value in the help, "" for an option without one. choices: the allowed values, () for any.
    meaning: its help.
    """

    flags: tuple[str, ...]
    value: str
    choices: tuple[str, ...]
    meaning: str


class Command(Record):
    """A command; name is "" for `oci-gpu` itself. description: paragraphs. below: subcommands."""

    name: str
    summary: str
    description: str
    usage: str
    arguments: tuple[Argument, ...]
    below: tuple[Command, ...] = ()

    @property
    def options(self) -> tuple[Argument, ...]:
        """Return the arguments that are options."""
        return tuple(argument for argument in self.arguments if argument.flags)


def read() -> Command:
    """Return `oci-gpu` with all its commands. Every command's module is imported."""
    return _command("", "show, explain and repair the access of containers to GPUs", arguments.parser(tuple(COMMANDS)))


def _command(name: str, summary: str, parser: argparse.ArgumentParser) -> Command:
    below: list[Command] = []
    found: list[Argument] = []
    for action in parser._actions:  # noqa: SLF001  argparse has no other way to be read
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            below += [_command(each, summaries[each], sub) for each, sub in action.choices.items()]
        else:
            found.append(_argument(action))
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    return Command(
        name=name,
        summary=summary,
        description=parser.description or "",
        usage=usage,
        arguments=tuple(found),
        below=tuple(below),
    )


def _argument(action: argparse.Action) -> Argument:
    choices = tuple(map(str, action.choices or ()))
    takes_value = action.nargs != 0
    value = str(action.metavar or ("|".join(choices) if choices else action.dest.upper())) if takes_value else ""
    values = {**vars(action), "prog": "oci-gpu"}
    return Argument(
        flags=tuple(action.option_strings), value=value, choices=choices, meaning=(action.help or "") % values
    )


def everything(command: Command) -> Iterator[Command]:
    """Yield a command and all of its subcommands."""
    yield command
    for each in command.below:
        yield from everything(each)
