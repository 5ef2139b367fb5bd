"""The log: JSON lines in the file that config.toml names; without one nothing is written.

Refusals go to the host's own log as well (`system_log`), because some engines show a hook's messages to nobody.

Each line has `event`, `level`, `timestamp` (UTC, ISO 8601) and the event's own fields. Errors are written by structlog,
bugs with their traceback. structlog costs as much as ten interpreters: a container that fails can wait for that, but
one that starts should not. So all other lines are written here, in the same form, which a test compares.
"""

from __future__ import annotations

import os
import time

from oci_gpu_hook.base import streams
from oci_gpu_hook.base.document import dump
from oci_gpu_hook.base.errors import coded, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config

LEVELS: Final = ("debug", "info", "warning", "error")

_REFUSALS: Final = ("refused", "failed", "internal error")

_file = ""
_lowest = 1
_state_dir = ""
_tells_host = True
_has_refusal = False
_context: dict[str, object] = {}


def configure(config: Config, **context: object) -> None:
    """Set the file and the lowest level from the configuration; `context` is part of every line."""
    global _file, _lowest, _tells_host, _state_dir, _context
    _file = config.log_file
    _state_dir = config.state_dir
    _tells_host = config.log_journal
    _lowest = LEVELS.index(config.log_level)
    _context = context


def forget() -> None:
    """Be as before `configure`, in a process that serves one container after the other."""
    global _file, _lowest, _tells_host, _state_dir, _context, _has_refusal
    _file = _state_dir = ""
    _lowest = 1
    _tells_host = True
    _context = {}
    _has_refusal = False


def debug(event: str, **fields: object) -> None:
    """Log what helps to find a cause."""
    _write(0, event, fields)


def info(event: str, **fields: object) -> None:
    """Log what happened."""
    _write(1, event, fields)


def warning(event: str, **fields: object) -> None:
    """Log what succeeded, but not as it was asked for."""
    _write(2, event, fields)


def tell(text: str, *, grave: bool = False) -> None:
    """Log what a container does not get as it asked, and write it to stderr, which some engines show.

    grave: something that the container asked for will not work; then the host's log gets the text too, like a refusal.
    """
    _write(2, "warning", {"text": text})
    if grave and _tells_host:
        _tell_host("oci-gpu-hook", text, is_error=False)
    streams.say(f"oci-gpu-hook: warning: {one_line(text)}")


def error(event: str, **fields: object) -> None:
    """Log what failed, with exc_info=True also where."""
    _note(event)
    if not _file:
        return
    try:
        _structured().error(event, **fields)
    except ImportError:  # the hook's isolated interpreter finds only this package
        fields.pop("exc_info", None)
        _write(3, event, fields)


def refused(program: str, message: str, code: str) -> None:
    """Log why a container is not started, unless the log has that already, and write it to the host's log.

    code: of the error, by which refusals are counted.
    """
    count_refusal(code)
    if not _has_refusal:
        error("refused", reason=message, code=code)
    if _tells_host:
        _tell_host(program, coded(message, code), is_error=True)


def has_refusal() -> bool:
    """Tell whether a refusal was logged."""
    return _has_refusal


def count_refusal(code: str) -> None:
    """Count a container that is not started, if the configuration is known."""
    if not _state_dir:
        return
    try:
        from oci_gpu_hook.base import counts
    except (ImportError, OSError):  # for want of descriptors, of which the refusal may tell
        return
    counts.add(_state_dir, {f"{counts.REFUSALS} {code}": 1})


def _tell_host(program: str, message: str, *, is_error: bool) -> None:
    try:
        from oci_gpu_hook.base import system_log
    except ImportError:  # a Python without sockets
        return
    tell = system_log.error if is_error else system_log.warning
    tell(program, message, str(_context.get("container", "")))


def render(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """Return an event as a line. structlog uses this as its final processor, so that all lines have one form."""
    return dump({name: _plain(value) for name, value in event.items()}).decode()


def _structured() -> Any:
    """Return a structlog logger that writes to the same file in the same form."""
    import structlog

    class Lines:
        """The logger that structlog passes rendered lines to."""

        def error(self, line: str) -> None:
            _append(line)

    return structlog.wrap_logger(
        Lines(),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.BoundLogger,
    ).bind(**_context)


def _note(event: str) -> None:
    global _has_refusal
    _has_refusal = _has_refusal or event in _REFUSALS


def _write(level: int, event: str, fields: dict[str, object]) -> None:
    _note(event)
    if _file and level >= _lowest:
        _append(line(LEVELS[level], event, fields))


def line(level: str, event: str, fields: dict[str, object]) -> str:
    """Return the line of an event that happens now."""
    seconds = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    head = {"event": event, "level": level, "timestamp": f"{stamp}.{int(seconds % 1 * 1e6):06d}Z"}
    return render(None, "", {**head, **_context, **fields})


def _append(line: str) -> None:
    """Append a line in one write, so that lines of concurrent hooks never mix. A log that fails stops no container."""
    try:
        fd = os.open(_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        try:
            os.write(fd, line.encode() + b"\n")
        finally:
            os.close(fd)
    except OSError as failure:
        streams.say(f"oci-gpu-hook: warning: cannot write the log {_file!r}: {failure.strerror}")


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return str(value)
