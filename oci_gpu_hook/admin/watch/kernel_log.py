"""Reads the kernel's log, and marks the GPUs sick whose errors say that they are of no use until a reset.

A record is `PRIORITY,SEQUENCE,TIME,FLAGS;TEXT` (Documentation/ABI/testing/dev-kmsg). To read it opens no device of the
driver's. What processes have written to the log has a facility other than the kernel's, and does not count.
"""

from __future__ import annotations

import os
import stat
import time

from oci_gpu_hook.base import limits, state
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import HookError, StateError, reason
from oci_gpu_hook.base.files import replace_file
from oci_gpu_hook.base.processes import boot_id
from oci_gpu_hook.devices.nvidia import sick
from oci_gpu_hook.devices.nvidia.xid import error_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.xid import Xid

_NAME: Final = "kernel-log.json"  # in the state directory: which errors were acted on, so that none is twice
_FACILITY: Final = 3  # bits of the priority below the facility; the kernel's is 0


class KernelLog:
    """The log from its oldest record on. fd: to wait for, -1 if it is no device, or cannot be read."""

    def __init__(self, config: Config, tell: Callable[..., object], on_sick: Callable[[], object]) -> None:
        """Open the log. on_sick: called after a GPU was marked."""
        self._config = config
        self._tell = tell
        self._on_sick = on_sick
        self._acted_on = self._last()
        self._rest = b""
        self._file = -1
        self.fd = -1
        if not config.watch_kernel_log:
            return
        try:
            self._file = os.open(config.watch_kernel_log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            path = config.watch_kernel_log
            self._tell("warning", "the kernel's log cannot be read", file=path, reason=reason(error))
            return
        if stat.S_ISCHR(os.fstat(self._file).st_mode):
            self.fd = self._file

    def read(self) -> None:
        """Act on what has come."""
        for sequence, message in self._messages():
            found = error_in(message)
            if found and sequence > self._acted_on:
                self._act(found)
                self._note(sequence)

    def _act(self, found: Xid) -> None:
        about = {"gpu": found.bus_id, "xid": found.number, "text": found.text}
        if not found.is_grave:
            self._tell("info", "error of a GPU", **about)
            return
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            is_new = sick.mark(found.bus_id, sick.Mark(xid=found.number, text=found.text, since=since), self._config)
        except HookError as error:
            self._tell("warning", "GPU not marked sick", **about, reason=str(error))
            return
        if is_new:
            self._tell("warning", "GPU marked sick", **about)
            self._on_sick()

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        """Yield sequence and first line of the kernel's records that have come."""
        for record in self._records():
            head, semicolon, text = record.partition(b";")
            fields = head.split(b",")
            is_record = bool(semicolon) and len(fields) > 2 and fields[0].isdigit() and fields[1].isdigit()
            if is_record and not int(fields[0]) >> _FACILITY:
                yield int(fields[1]), text.partition(b"\n")[0]

    def _records(self) -> Iterator[bytes]:
        while self._file >= 0:
            try:
                piece = os.read(self._file, limits.KERNEL_MESSAGE)
            except BlockingIOError:
                return
            except BrokenPipeError:  # records were overwritten before they were read
                continue
            except OSError as error:
                self._tell("warning", "the kernel's log cannot be read", reason=reason(error))
                self._file = -1
                return
            if self.fd >= 0:
                yield piece  # a read gives a record
            elif piece:
                *lines, self._rest = (self._rest + piece).split(b"\n")
                yield from lines
            else:
                return

    def _last(self) -> int:
        """Return the sequence of the last error of this boot that was acted on, -1 for none."""
        try:
            directory = state.existing(self._config.state_dir)
            data = state.read(os.path.join(directory, _NAME), limits.SICK) if directory else None
            document = parse(data, _NAME) if data else {}
            return int(document["sequence"]) if document.get("bootId") == boot_id() else -1
        except (HookError, KeyError, TypeError, ValueError, AttributeError):
            return -1

    def _note(self, sequence: int) -> None:
        self._acted_on = sequence
        try:
            path = os.path.join(state.directory(self._config.state_dir), _NAME)
            replace_file(path, dump({"bootId": boot_id(), "sequence": sequence}))
        except (OSError, StateError):
            return  # after a restart of the watch it is acted on again
