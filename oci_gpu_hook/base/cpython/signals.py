"""The C half of `signal`, without `signal` itself, which imports `enum`; where that is changed, `signal`.

What it saves a start: see "What leans on CPython's inside" in docs/performance.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container


def restore(ignored: Container[int] = ()) -> None:
    """Give the signals that CPython ignores back to the program that is about to take this process's place.

    It would inherit that they are ignored. ignored: those that were ignored before this interpreter began.
    """
    try:
        from _signal import SIG_DFL, SIGPIPE, SIGXFSZ, signal  # type: ignore[import-not-found]
    except ImportError:
        from signal import SIG_DFL, SIGPIPE, SIGXFSZ, signal
    for each in (SIGPIPE, SIGXFSZ):
        if each not in ignored:
            signal(each, SIG_DFL)


def die_after(seconds: int) -> None:
    """Have the kernel end this process after so many seconds, whatever it is doing then."""
    try:
        from _signal import SIG_DFL, SIGALRM, alarm, signal  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        from signal import SIG_DFL, SIGALRM, alarm, signal
    signal(SIGALRM, SIG_DFL)
    alarm(seconds)
