"""Where commands write: a terminal gets colour and its own width, a file or pipe plain text as wide as it needs."""

from __future__ import annotations

import sys

from oci_gpu_hook.base.errors import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Final, Self

    from rich.console import Console
    from rich.table import Table

_NO_TERMINAL: Final = 200  # columns


def console() -> Console:
    """Return the console of stdout."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False, emoji=False, markup=False)
    return Console(width=_NO_TERMINAL, no_color=True, highlight=False, emoji=False, markup=False)


class Working:
    """Shows on a terminal that work goes on, and what it is; elsewhere nothing. For a `with` block."""

    def __init__(self, what: str) -> None:
        self._status = None
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status(what)

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def now(self, what: str) -> None:
        """Say what is done next."""
        if self._status:
            self._status.update(what)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()


def new_table() -> Table:
    """Return a table of columns two spaces apart and no lines, so that a screen of 80 columns holds much of it."""
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def print_table(out: Console, table: Table) -> None:
    """Print a table; in a file or pipe without the blanks at the ends of lines."""
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().removesuffix("\n").split("\n"):
        print(line.rstrip())


def hanging(out: Console, mark: str, text: str, style: str = "") -> None:
    """Print a mark, and beside it a text that keeps its distance from the left where it takes several lines."""
    from rich.text import Text

    for number, line in enumerate(Text(one_line(text)).wrap(out, max(out.width - len(mark), 20))):
        line.rstrip()
        out.print(Text.assemble((mark if number == 0 else " " * len(mark), style), line))
