"""What a mistyped or misplaced word of the command line may have been meant for; imported only to complain."""

from __future__ import annotations

import argparse  # noqa: TID253

from oci_gpu_hook.admin.cli import run, usual
from oci_gpu_hook.admin.engines import known
from oci_gpu_hook.request import suggestions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

# Words that similar tools have for what a command does.
OTHER_WORDS: Final[Mapping[str, str]] = {
    "check": "doctor",
    "configure": "install",
    "devices": "info",
    "disable": "uninstall",
    "enable": "install",
    "exec": "run",
    "free": "detach",
    "inspect": "plan",
    "list": "info",
    "ls": "info",
    "monitor": "top",
    "nvidia-smi": "info",
    "ps": "leases",
    "register": "install",
    "remove": "uninstall",
    "setup": "install",
    "start": "run",
    "stats": "top",
    "status": "doctor",
    "test": "run",
    "try": "run",
}
_GPUS: Final = ("--gpus", "--gpu", "-g")  # of Docker, and of what resembles it


def for_command(word: str, commands: Sequence[str]) -> str:
    """Return what may have been meant by a command that does not exist, as a question and a space; "" if unknown."""
    name = word.lower()
    lines = [f"`oci-gpu install {name}`"] if name in known.INSTALLABLE else []
    lines += [f"`oci-gpu run --engine {name}`"] if name in run.ENGINES else []
    if lines:
        return f"did you mean {' or '.join(lines)}? "
    nearest = OTHER_WORDS.get(name, "") or suggestions.word(word, commands)
    return f"did you mean {nearest!r}? " if nearest in commands else ""


def for_top(message: str, top: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser]) -> str:
    """Return what may have been meant, for a complaint of argparse about words before any command; "" if unknown.

    commands: the parser of each.
    """
    word = message.rpartition(": ")[2].split()[0].partition("=")[0]
    meant = "--devices" if word in _GPUS else word
    having = [name for name, parser in commands.items() if meant in options(parser)]
    return f"; {meant} goes after a command that has it: {', '.join(having)}" if having else for_complaint(message, top)


def for_complaint(message: str, parser: argparse.ArgumentParser) -> str:
    """Return what may have been meant, for a complaint of argparse about the words of this parser; "" if unknown."""
    _, is_unknown, words = message.partition("unrecognized arguments: ")
    _, is_choice, value = message.partition("invalid choice: ")
    _, is_missing, names = message.partition("the following arguments are required: ")
    if is_unknown:
        return _for_option(words.split()[0], parser) or parser.get_default("hint") or ""
    if is_choice:
        choices = [str(choice) for action in parser._actions for choice in action.choices or ()]  # noqa: SLF001
        nearest = suggestions.word(value.partition(" (choose")[0].strip("'"), choices)
        return f"; did you mean {nearest!r}?" if nearest else ""
    if is_missing:
        missing = {*names.split(", ")}
        for action in parser._actions:  # noqa: SLF001
            if action.choices and {action.dest, action.metavar} & missing:
                return f"; name one of {', '.join(action.choices)}"
    return ""


def _for_option(word: str, parser: argparse.ArgumentParser) -> str:
    given, there = word.partition("=")[0], options(parser)
    if not given.startswith("-"):
        return ""
    if given in (*(option.flag for option in usual.GLOBAL), "--version", "-V"):
        return f"; {given} goes before the command, as in `oci-gpu {given} …`"
    if given in there:
        return f"; {given} goes after the command, as in `{parser.prog} {given}`"
    if given in _GPUS and "--devices" in there:
        return "; did you mean '--devices' (which GPUs) or '--count' (how many)?"
    nearest = suggestions.word(given, there) or _long_of(given, there)
    return f"; did you mean {nearest!r}?" if nearest else ""


def _long_of(short: str, there: Sequence[str]) -> str:
    """Return the long option that begins with the letter of a short one, as --quiet of -q; "" if none or several do."""
    found = {option for option in there if short[1:2].isalpha() and option.startswith(f"-{short[:2]}")}
    return found.pop() if len(found) == 1 else ""


def options(parser: argparse.ArgumentParser) -> list[str]:
    """Return the options of a parser and of all parsers below it."""
    found = [flag for action in parser._actions for flag in action.option_strings]  # noqa: SLF001  no other way
    for below in commands_of(parser).values():
        found += options(below)
    return found


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers below one, by the word that chooses each."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            found |= action.choices
    return found
