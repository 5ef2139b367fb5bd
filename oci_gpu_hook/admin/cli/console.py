"""Output of commands: a terminal gets colours and its own width, a file or pipe plain text of any width."""

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
_WIDEST: Final = 10_000  # columns, of what is measured
_NARROWEST: Final = 12  # columns beside a mark


def console() -> Console:
    """Return the console of stdout. What prints to it raises BrokenPipeError where nobody reads it, as `print` does."""
    from rich import console as rich

    class Output(rich.Console):
        def on_broken_pipe(self) -> None:
            """Leave it to the command; Console would end the process with status 1."""
            raise BrokenPipeError

    if sys.stdout.isatty():
        return Output(highlight=False, emoji=False, markup=False)
    return Output(width=_NO_TERMINAL, no_color=True, highlight=False, emoji=False, markup=False)


class Working:
    """Shows on a terminal, for a `with` block, what is being done; elsewhere nothing."""

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
        """Show what is done next."""
        if self._status:
            self._status.update(what)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()


def new_table() -> Table:
    """Return a table without lines, its columns two spaces apart, to fit much into 80 columns."""
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def print_table(out: Console, table: Table) -> None:
    """Print a table; to a file or pipe without trailing blanks."""
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().removesuffix("\n").split("\n"):
        print(line.rstrip())


def fits(out: Console, table: Table) -> bool:
    """Tell whether a table fits the terminal with no cell cut or wrapped."""
    return out.measure(table, options=out.options.update(width=_WIDEST)).maximum <= out.width


def hanging(out: Console, mark: str, text: str, style: str = "") -> None:
    """Print a mark, and beside it a text whose further lines are indented to the same column."""
    from rich.text import Text

    for number, line in enumerate(Text(one_line(text)).wrap(out, max(out.width - len(mark), _NARROWEST))):
        line.rstrip()
        out.print(Text.assemble((mark if number == 0 else " " * len(mark), style), line))
