"""Reads usual command lines without argparse, which takes as long to import and to set up as Python to start.

Usual is: each option at most once, by its whole name, as `--name value` or `--name=value`. For everything else, and
for all that is wrong, nothing is returned, and argparse reads the line or complains.
"""

from __future__ import annotations

from oci_gpu_hook.admin.cli.commands import COMMANDS
from oci_gpu_hook.admin.cli.option import Option
from oci_gpu_hook.base.config.load import DEFAULT_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

GLOBAL: Final = (
    Option(flag="--config", metavar="FILE", default=DEFAULT_PATH, help="configuration (default: %(default)s)"),
    Option(flag="--debug", is_switch=True, help="show where in the code an error comes from"),
)


class Options:
    """What a command line says, as argparse's Namespace."""

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)


def read(given: Sequence[str]) -> Any:
    """Return the options of a command line, with the command's `run`; None if argparse is to read it."""
    head = _first_word(given)
    command = given[head] if head < len(given) else ""
    if command not in COMMANDS:
        return None
    module = module_of(command)
    values = _values(given[:head], GLOBAL)
    rest = given[head + 1 :]
    options: Sequence[Option] | None = getattr(module, "OPTIONS", None)
    if actions := getattr(module, "ACTIONS", None):
        action = actions.get(rest[0]) if rest else None
        if action is None or values is None:
            return None
        options, rest = action.options, rest[1:]
        values["action"] = action.run
    own = None if options is None else _values(rest, options)
    return None if values is None or own is None else Options(**values, **own, run=module.run)


def module_of(command: str) -> Any:
    """Return the module of a command."""
    return __import__(f"{__package__}.{command.replace('-', '_')}", fromlist=["run"])


def _first_word(given: Sequence[str]) -> int:
    """Return the place of the command: the first word that is neither an option for all commands nor its value."""
    place = 0
    while place < len(given) and given[place].startswith("-"):
        place += 2 if given[place] == "--config" else 1
    return place


def _values(words: Sequence[str], options: Sequence[Option]) -> dict[str, object] | None:
    """Return the values of options by attribute; None if argparse is to read the words."""
    said = _said(words, options)
    if said is None:
        return None
    either = [option.attribute in said for option in options if option.is_either]
    if either and sum(either) != 1:
        return None
    found: dict[str, object] = {}
    for option in options:
        name = option.attribute
        text = said.get(name, False if option.is_switch else option.default)
        if name not in said and not option.flag.startswith("-"):
            return None
        try:  # as argparse does, with defaults too
            value = option.read(text) if option.read and isinstance(text, str) else text
        except Exception:  # noqa: BLE001  whatever it is, argparse complains about it
            return None
        if name in said and option.choices and value not in option.choices:
            return None
        found[name] = value
    return found


def _said(words: Sequence[str], options: Sequence[Option]) -> dict[str, str | bool] | None:
    """Return the words for options by attribute, True for a switch; None if it is not the usual."""
    flags = {option.flag: option for option in options}
    places = [option for option in options if not option.flag.startswith("-")]
    said: dict[str, str | bool] = {}
    rest = iter(words)
    for word in rest:
        flag, is_joined, text = word.partition("=")
        option = flags.get(flag)
        if not word.startswith("-"):
            option, text = places.pop(0) if places else None, word
        elif option and not option.is_switch and not is_joined:
            text = next(rest, "")
            option = None if text.startswith("-") else option
        if option is None or option.nargs or option.attribute in said or not _fits(option, text, is_joined):
            return None
        said[option.attribute] = option.is_switch or text
    return said


def _fits(option: Option, text: str, is_joined: str) -> bool:
    """Tell whether an option has a value if it is to have one, and only then."""
    return not (text or is_joined) if option.is_switch else bool(text)
