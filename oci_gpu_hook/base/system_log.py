"""Writes to the host's log: to journald by its own protocol, otherwise to the socket /dev/log.

Protocols: systemd, docs/JOURNAL_NATIVE_PROTOCOL.md; RFC 3164 for /dev/log. Imported only when a container is refused,
or when something that it asked for will not work.
"""

from __future__ import annotations

import os
import socket  # noqa: TID253

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

JOURNAL: Final = "/run/systemd/journal/socket"
SYSLOG: Final = "/dev/log"
_DAEMON: Final = 3  # the facility
_ERROR: Final = 3
_WARNING: Final = 4


def error(program: str, message: str, container: str) -> bool:
    """Log an error; tell whether a log took it. This never waits, so a log that hangs delays no engine.

    container: its id, for the journald field that Docker and Podman use; "" if it is not known.
    """
    return _log(_ERROR, program, message, container)


def warning(program: str, message: str, container: str) -> bool:
    """Log a warning in the same way."""
    return _log(_WARNING, program, message, container)


def _log(severity: int, program: str, message: str, container: str) -> bool:
    text = one_line(message)[: limits.HOST_LOG_MESSAGE]
    fields = {"MESSAGE": text, "PRIORITY": severity, "SYSLOG_FACILITY": _DAEMON, "SYSLOG_IDENTIFIER": program}
    if container:
        fields["CONTAINER_ID_FULL"] = one_line(container)
    journal = "".join(f"{name}={value}\n" for name, value in fields.items())
    syslog = f"<{_DAEMON << 3 | severity}>{program}[{os.getpid()}]: {text}"
    return _send(JOURNAL, journal) or _send(SYSLOG, syslog)


def _send(address: str, text: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text.encode(), socket.MSG_DONTWAIT, address)
    except OSError:
        return False
    return True
