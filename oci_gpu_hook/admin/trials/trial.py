"""One container under one engine: started, shown, and removed with all that was made for it."""

from __future__ import annotations

import os
import secrets
import shutil  # noqa: TID253  a command for people
import signal
import subprocess  # noqa: TID253
import tempfile  # noqa: TID253
import time

from oci_gpu_hook.admin.trials import engines
from oci_gpu_hook.base import limits, streams
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import Any, Final

    from oci_gpu_hook.admin.trials.engines import Prepared, Wanted

    Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

_PLACES: Final = ("/var/tmp", "/var/lib", "/run")  # noqa: S108  the directory in it has a name that nobody can guess
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TIMED_OUT: Final = 124  # as timeout(1)
_REMOVAL_SECONDS: Final = 60.0


class Outcome(Record):
    """How a container ended. words: what the hook said where the engine does not show it."""

    status: int
    seconds: float
    words: str = ""


def run(engine: str, wanted: Wanted, timeout: float) -> Outcome:
    """Run a container to its end; what it prints goes where this process prints.

    Raises engines.NotTried if the engine cannot be tried, HookError if something for it cannot be made.
    """
    place = next((place for place in _PLACES if os.access(place, os.W_OK)), tempfile.gettempdir())
    # It is the container's name too: containerd takes neither - nor _ at its end, which tempfile may put there.
    work = f"{place}/oci-gpu-run-{engine}-{secrets.token_hex(8)}"
    before = {number: signal.getsignal(number) for number in _ENDING}
    remove: list[tuple[str, ...]] = []
    try:
        _on_signals(before, _end)
        os.mkdir(work)
        os.chmod(work, 0o755)  # noqa: S103  a container of a user namespace enters it
        return _ended(engines.prepare(engine, wanted, work, remove), timeout)
    finally:
        _on_signals(before, _late)
        for command in remove:
            _remove(command)
        shutil.rmtree(work, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_signals(before: Mapping[signal.Signals, Handler], handler: Handler) -> None:
    """Have a handler called for the signals that end this process; what nohup(1) has it ignore stays ignored."""
    for number in before:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, handler)


def _remove(command: tuple[str, ...]) -> None:
    """Run what removes something, which is mostly gone already; an engine that does not answer delays nothing."""
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_REMOVAL_SECONDS,
            start_new_session=True,  # the terminal's Ctrl-C does not reach it
        )
    except subprocess.TimeoutExpired:
        streams.say(f"oci-gpu: warning: `{' '.join(command)}` did not end within {_REMOVAL_SECONDS:.0f} s")


def _ended(prepared: Prepared, timeout: float) -> Outcome:
    began = time.monotonic()
    try:
        status = subprocess.run(prepared.command, stdin=subprocess.DEVNULL, check=False, timeout=timeout).returncode
    except subprocess.TimeoutExpired:
        status = _TIMED_OUT
    seconds = time.monotonic() - began
    return Outcome(status=status, seconds=seconds, words=_words(prepared.words) if status and prepared.words else "")


def _words(path: str) -> str:
    """Return the last line that the hook wrote, where the runtime has kept it."""
    try:
        with open(path, "rb") as file:
            lines = file.read(limits.LOG_LINE).decode("utf-8", "replace").strip().split("\n")
    except OSError:
        return ""
    return lines[-1]


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _late(_number: int, _frame: FrameType | None) -> None:
    """Go on: what was made is being removed."""
