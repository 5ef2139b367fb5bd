"""A line of the log, whichever log it is from."""

from __future__ import annotations

import json  # noqa: TID253  a command for people
from datetime import UTC, datetime

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

FILE: Final = "file"
HOST: Final = "host"
_SHOWN_APART: Final = ("event", "level", "timestamp", "container", "reason", "text")


class Line(Record):
    """What was logged at a time.

    container: its id, "" if it is about none. log: FILE or HOST, which has it. fields: as they were logged.
    """

    time: float
    level: str
    event: str
    container: str
    log: str
    fields: Mapping[str, Any]

    @property
    def message(self) -> str:
        """What a refusal or a warning says; "" for other events."""
        said = self.fields.get("reason") or self.fields.get("text")
        return said if type(said) is str else ""

    @property
    def words(self) -> str:
        """The event and all that was logged of it, for people."""
        rest = [f"{name} {_plain(value)}" for name, value in self.fields.items() if name not in _SHOWN_APART]
        head = self.event if self.event not in ("warning", "not given") or not self.message else ""
        return ": ".join(filter(None, (head, self.message))) + (f" ({'; '.join(rest)})" if rest else "")


def of_file(data: bytes) -> Line | None:
    """Return a line of the file, None if it is no line of this project's."""
    try:
        fields = json.loads(data)
        stamp = datetime.fromisoformat(fields["timestamp"])
        event, level, container = fields["event"], fields["level"], fields.get("container", "")
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(type(each) is str for each in (event, level, container)):
        return None
    return Line(time=_seconds(stamp), level=level, event=event, container=container, log=FILE, fields=fields)


def of_host(data: bytes) -> tuple[Line | None, str]:
    """Return an entry of journald's in its JSON form, None if it is none of ours, and its cursor."""
    try:
        entry = json.loads(data)
        microseconds, said, cursor = int(entry["__REALTIME_TIMESTAMP"]), entry["MESSAGE"], entry["__CURSOR"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, ""
    if type(said) is list:  # of bytes that are no UTF-8
        said = bytes(each for each in said if type(each) is int and 0 <= each < 256).decode("utf-8", "replace")
    if type(said) is not str or type(cursor) is not str:
        return None, ""
    is_error = str(entry.get("PRIORITY", "3")) <= "3"
    container = entry.get("CONTAINER_ID_FULL", "")
    stamp = datetime.fromtimestamp(microseconds / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    fields = {"event": "refused" if is_error else "warning", "level": "error" if is_error else "warning"}
    fields |= {"timestamp": stamp, "reason" if is_error else "text": said}
    if type(container) is str and container:
        fields["container"] = container
    program, uid = entry.get("SYSLOG_IDENTIFIER"), str(entry.get("_UID", ""))
    fields |= {"program": program} if type(program) is str else {}
    fields |= {"user": uid} if uid not in ("", "0") else {}  # whom anybody can be: the words are that user's
    return (
        Line(
            time=microseconds / 1e6,
            level=fields["level"],
            event=fields["event"],
            container=fields.get("container", ""),
            log=HOST,
            fields=fields,
        ),
        cursor,
    )


def _seconds(stamp: datetime) -> float:
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()


def _plain(value: object) -> str:
    if type(value) is list:
        return ", ".join(map(_plain, value))
    if type(value) is dict:
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    return "yes" if value is True else "no" if value is False else str(value)
