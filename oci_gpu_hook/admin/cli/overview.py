"""The overview that `oci-gpu --help` shows: made without argparse, which takes as long to import as Python to start."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.cli.commands import COMMANDS
from oci_gpu_hook.admin.cli.examples import EXAMPLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

_WORDS: Final = ("[-h]", "[-V]", "[--config FILE]", "[--debug]", "COMMAND", "...")
USAGE: Final = " ".join(("oci-gpu", *_WORDS))
DESCRIPTION: Final = "Show, explain and repair the access of containers to the host's GPUs."
EXAMPLES_TITLE: Final = "examples:"
_OPTIONS: Final = (
    ("-h, --help", "show this help message and exit"),
    ("-V, --version", "show program's version number and exit"),
    ("--config FILE", "configuration (default: /etc/oci-gpu-hook/config.toml)"),
    ("--debug", "show where in the code an error comes from"),
)
_USUAL_COLUMNS: Final = 80
_LEAST: Final = 11  # columns of text, in terminals that are too narrow for it


def text() -> str:
    """Return the overview, as wide as the terminal."""
    width = columns() - 2
    usage = _wrapped(_WORDS, width, "usage: oci-gpu ", " " * len("usage: oci-gpu "))
    about = _wrapped(DESCRIPTION.split(), width, "", "")
    commands = _table(COMMANDS.items(), width)
    options = _table(_OPTIONS, width)
    parts = (usage, about, ("commands:", *commands), ("options:", *options), (examples("") or "",))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _table(rows: Iterable[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield the lines of a table of two columns, the second wrapped."""
    rows = tuple(rows)
    first = max(len(name) for name, _ in rows)
    for name, meaning in rows:
        yield from _wrapped(meaning.split(), width, f"  {name:{first}}  ", " " * (first + 4))


def _wrapped(words: Iterable[str], width: int, first: str, others: str) -> Iterator[str]:
    """Yield the lines of a paragraph. first, others: what they begin with."""
    line, room = "", max(width - len(first), _LEAST)
    start = first
    for word in words:
        if line and len(line) + 1 + len(word) > room:
            yield start + line
            start, line = others, word
        else:
            line = f"{line} {word}".lstrip()
    yield start + line


def examples(command: str) -> str | None:
    """Return a command's examples in the form of its help, None if it has none."""
    found = EXAMPLES.get(command)
    if not found:
        return None
    width = max(len(line) for line, _ in found)
    return "\n".join((EXAMPLES_TITLE, *(f"  {line:{width}}  {meaning}" for line, meaning in found)))


def columns() -> int:
    """Return the width of the terminal, as shutil does, which takes as long to import as argparse."""
    try:
        return int(os.environ.get("COLUMNS", "")) or _USUAL_COLUMNS
    except ValueError:
        pass
    try:
        return os.get_terminal_size(1).columns or _USUAL_COLUMNS
    except OSError:
        return _USUAL_COLUMNS
