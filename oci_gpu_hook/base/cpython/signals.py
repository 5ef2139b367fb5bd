"""The C half of `signal`, without importing `signal`, which imports `enum`; falls back to `signal`.

What it saves a start: docs/performance.md, "What relies on CPython's internals".
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any


def calls() -> Any:
    """Return a module with the functions and constants of `signal`; its numbers need not be of the type Signals."""
    try:
        import _signal as found  # type: ignore[import-not-found]
    except ImportError:
        import signal as found
    return found


def restore(ignored: Container[int] = ()) -> None:
    """Restore the signals that CPython ignores, for the program that is about to replace this process.

    Otherwise that program would inherit them as ignored. ignored: those that were ignored before this interpreter.
    """
    try:
        from _signal import SIG_DFL, SIGPIPE, SIGXFSZ, signal
    except ImportError:
        from signal import SIG_DFL, SIGPIPE, SIGXFSZ, signal
    for each in (SIGPIPE, SIGXFSZ):
        if each not in ignored:
            signal(each, SIG_DFL)


def unblock() -> None:
    """Unblock all signals: some runtimes run their hooks with those blocked that they wait for themselves."""
    try:
        from _signal import SIG_SETMASK, pthread_sigmask
    except ImportError:
        from signal import SIG_SETMASK, pthread_sigmask
    pthread_sigmask(SIG_SETMASK, ())


def die_after(seconds: int) -> None:
    """Have the kernel end this process after that many seconds, whatever it is doing then."""
    try:
        from _signal import SIG_DFL, SIGALRM, alarm, signal  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        from signal import SIG_DFL, SIGALRM, alarm, signal
    signal(SIGALRM, SIG_DFL)
    alarm(seconds)
