"""Options of commands as values: argparse's parser and the one without it (`usual`) are made from the same ones."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable, Iterable
    from typing import Any


class Option(Record):
    """An option of a command, or an argument that stands by its place, where the flag begins with no dash.

    read: makes the value of a word, None to take it as it is; raises ValueError or ArgumentTypeError, as for argparse.
    is_switch: takes no value. is_either: exactly one of those must be given. nargs: argparse's, "" for one word.
    """

    flag: str
    help: str
    metavar: str = ""
    read: Callable[[str], object] | None = None
    default: object = ""
    choices: tuple[str, ...] = ()
    name: str = ""
    nargs: str = ""
    is_switch: bool = False
    is_either: bool = False

    @property
    def attribute(self) -> str:
        """The name of the value among the options of a command."""
        return self.name or self.flag.lstrip("-").replace("-", "_")


class Action(Record):
    """An action of a command, such as `generate` of `oci-gpu cdi`: its line in the help, what runs it, its options."""

    help: str
    run: Callable[[Any], int]
    options: tuple[Option, ...]


def describe(parser: ArgumentParser, options: Iterable[Option]) -> None:
    """Add options to a parser of argparse."""
    either = None
    for option in options:
        words: dict[str, Any] = {"help": option.help}
        if option.is_switch:
            words["action"] = "store_true"
        elif option.flag.startswith("-"):
            words["default"] = option.default
        more = {
            "metavar": option.metavar,
            "type": option.read,
            "choices": option.choices,
            "dest": option.name,
            "nargs": option.nargs,
        }
        words |= {name: value for name, value in more.items() if value}
        if option.is_either and either is None:
            either = parser.add_mutually_exclusive_group(required=True)
        group = either if option.is_either and either else parser
        group.add_argument(option.flag, **words)
