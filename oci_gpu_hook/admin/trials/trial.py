"""One container under one engine: started, shown, and removed with all that was made for it."""

from __future__ import annotations

import os
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
    from types import FrameType
    from typing import Final

    from oci_gpu_hook.admin.trials.engines import Started, Wanted

_PLACES: Final = ("/var/tmp", "/var/lib", "/run")  # noqa: S108  a directory in it is made by mkdtemp
_TIMED_OUT: Final = 124  # as timeout(1)
_REMOVAL_SECONDS: Final = 60.0


class Outcome(Record):
    """How a container ended. words: what the hook said where the engine shows it to nobody."""

    status: int
    seconds: float
    words: str = ""


def run(engine: str, wanted: Wanted, timeout: float) -> Outcome:
    """Run a container to its end; what it prints goes where this process prints.

    Raises engines.NotTried if the engine cannot be tried, HookError if something for it cannot be made.
    """
    place = next((place for place in _PLACES if os.access(place, os.W_OK)), tempfile.gettempdir())
    work = tempfile.mkdtemp(prefix=f"oci-gpu-run-{engine}-", dir=place)
    os.chmod(work, 0o755)  # noqa: S103  a container of a user namespace enters it
    before = signal.signal(signal.SIGTERM, _end)
    started: Started | None = None
    try:
        started = engines.prepare(engine, wanted, work)
        return _ended(started, timeout)
    finally:
        for command in started.remove if started else ():
            _remove(command)
        shutil.rmtree(work, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def _remove(command: tuple[str, ...]) -> None:
    """Run what removes something, which is mostly gone already; an engine that does not answer holds nobody up."""
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_REMOVAL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        streams.say(f"oci-gpu: warning: no end in {_REMOVAL_SECONDS:.0f} s: {' '.join(command)}")


def _ended(started: Started, timeout: float) -> Outcome:
    began = time.monotonic()
    try:
        status = subprocess.run(started.command, stdin=subprocess.DEVNULL, check=False, timeout=timeout).returncode
    except subprocess.TimeoutExpired:
        status = _TIMED_OUT
    seconds = time.monotonic() - began
    return Outcome(status=status, seconds=seconds, words=_words(started.words) if status and started.words else "")


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
