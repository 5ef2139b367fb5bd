"""The host's log: what journald has of this project's programs, asked of journalctl."""

from __future__ import annotations

import os
import shutil  # noqa: TID253  a command for people
import subprocess  # noqa: TID253

from oci_gpu_hook.admin.logs import line as lines
from oci_gpu_hook.base import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.admin.logs.line import Line

PROGRAMS: Final = ("oci-gpu-hook", "oci-gpu-runtime", "oci-gpu-slurm")
_SHOWN: Final = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,CONTAINER_ID_FULL,_UID"
_ASKED: Final = tuple(word for program in PROGRAMS for word in ("-t", program))
_PIECE: Final = 64 << 10


class HostLog:
    """What journald has of this project's programs, up to now."""

    def __init__(self, program: str) -> None:
        """program: journalctl's path."""
        self._command = (program, "--quiet", "--no-pager", "--output=json", f"--output-fields={_SHOWN}", *_ASKED)
        self._cursor = ""

    def past(self) -> Iterator[Line]:
        """Yield what there is, oldest first."""
        with subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as asked:
            try:
                while asked.stdout and (data := asked.stdout.readline(limits.LOG_LINE)):
                    found, cursor = lines.of_host(data)
                    self._cursor = cursor or self._cursor
                    if found:
                        yield found
            finally:
                asked.kill()

    def follower(self) -> Follower:
        """Return what follows the log from where `past` has ended."""
        since = ("--after-cursor", self._cursor) if self._cursor else ("--lines=all",)
        return Follower([*self._command, "--follow", *since])


class Follower:
    """What journald gets of this project's programs from now on."""

    def __init__(self, command: list[str]) -> None:
        self.fd, write = os.pipe()
        self._rest = b""
        try:
            self._process = subprocess.Popen(command, stdout=write, stderr=subprocess.DEVNULL)
        finally:
            os.close(write)

    def read_into(self, found: list[Line]) -> bool:
        """Add what has come, when the descriptor says that there is something; tell whether more can come."""
        piece = os.read(self.fd, _PIECE)
        *whole, self._rest = (self._rest + piece).split(b"\n")
        for data in whole:
            line, _ = lines.of_host(data)
            if line:
                found.append(line)
        if len(self._rest) > limits.LOG_LINE:
            self._rest = b""
        return bool(piece)

    def close(self) -> None:
        """End journalctl."""
        self._process.kill()
        self._process.wait()
        os.close(self.fd)


def find() -> HostLog | None:
    """Return the host's log, None where there is no journalctl to ask."""
    program = shutil.which("journalctl")
    return HostLog(program) if program else None
