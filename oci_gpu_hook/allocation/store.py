"""The lease table's file (the record), STATE/leases.json: used under one lock, and replaced as a whole.

There is no fsync: what a process wrote survives its death, and after a crash of the machine every lease is void anyway
(the boot id changes). A file that a power failure left half written counts as damaged, and is rebuilt.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.allocation.lease_table import from_json, to_json
from oci_gpu_hook.allocation.model import LeaseTable
from oci_gpu_hook.base import document, limits, log
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.files import replace_file
from oci_gpu_hook.base.locks import acquire
from oci_gpu_hook.base.trust import is_trusted, read_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Self

    from oci_gpu_hook.allocation.holders import Processes
    from oci_gpu_hook.request.model import Request

RECORD: Final = "leases.json"
LOCK: Final = "leases.lock"
JUDGED: Final = 8  # how many leases a start checks that do not affect it


class Store:
    """The open state directory. `lock()` gives the right to change the record. Every method may raise OSError."""

    def __init__(self, directory: str, processes: Processes) -> None:
        self.processes = processes
        self.troubles: list[dict[str, object]] = []
        self.directory = directory
        self._dir = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._lock: int | None = None
        found = os.fstat(self._dir)
        if not is_trusted(found):
            os.close(self._dir)
            raise OSError(errno.EPERM, "could be written by others", directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)  # which releases the lock
        os.close(self._dir)

    def lock(self) -> None:
        """Wait for the lock. Raises OSError ETIMEDOUT, so that a container's start never hangs."""
        self._lock = acquire(LOCK, limits.LEASES_LOCK_SECONDS, self._dir)
        if self._lock is None:
            raise OSError(errno.ETIMEDOUT, f"another process has held its lock for {limits.LEASES_LOCK_SECONDS:.0f} s")

    def read(self) -> LeaseTable:
        """Return the lease table. A file that cannot be trusted is set aside (under the lock) and rebuilt."""
        try:
            data = read_trusted(RECORD, limits.LEASES, self._dir)
            table, complaints = from_json(document.parse(data, RECORD))
        except FileNotFoundError:
            return self._completed(LeaseTable())
        except HookError as error:
            return self._set_right(error.why, LeaseTable())
        return self._set_right("; ".join(complaints), table) if complaints else table

    def living(self, table: LeaseTable, request: Request | None = None) -> LeaseTable:
        """Return the table without dead holders. A holder that cannot be seen from this pid namespace counts as alive.

        To a plain request by name only exclusive leases matter, and those of runtimes that may have started this hook.
        Of the other leases, the first few are checked by pid and start time and then moved to the end, so that each is
        checked in turn; the rest are checked by pid alone. That keeps a start cheap on a host with hundreds of
        containers.
        """
        plain = request is not None and request.count is None and not request.exclusive and not request.is_share
        few = JUDGED if plain else len(table.leases)
        lives, may_live = self.processes.lives, self.processes.may_live
        judged = [lease for lease in table.leases[:few] if lives(lease.holder) is not False]
        leases = []
        for lease in table.leases[few:]:
            matters = lease.exclusive or lease.starting
            if lives(lease.holder) is not False if matters else may_live(lease.holder):
                leases.append(lease)
        queue = tuple([waiter for waiter in table.queue if lives(waiter.holder) is not False])
        if len(judged) == len(table.leases) and len(queue) == len(table.queue):
            return table
        return table.replace(leases=(*leases, *judged), queue=queue)

    def write(self, table: LeaseTable) -> None:
        """Replace the file; readers without the lock see either the old or the new one.

        Raises OSError EFBIG if it would be too large to be read back, because then all leases would be lost.
        """
        data = document.dump(to_json(table))
        if len(data) > limits.LEASES or not document.has_few_items(data):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), RECORD)
        replace_file(RECORD, data, mode=0o644, dir_fd=self._dir, temporary=RECORD + ".new")

    def tell_troubles(self) -> None:
        """Log an error for each file that could not be trusted, with its new name."""
        for trouble in self.troubles:
            log.warning("lease record was unusable and has been rebuilt", **trouble)

    def stamp(self) -> tuple[int, int]:
        """Return a value that changes when the file is replaced."""
        return stamp_of(self.directory)

    def _set_right(self, why: str, readable: LeaseTable) -> LeaseTable:
        table = self._completed(readable)
        aside = ""
        if self._lock is not None:
            from oci_gpu_hook.allocation import rebuild

            aside = rebuild.set_aside(RECORD, self._dir)
            self.write(table)
        path = os.path.join(self.directory, RECORD)
        self.troubles.append({"file": path, "reason": why, "kept_as": aside, "leases": len(table.leases)})
        return table

    def _completed(self, readable: LeaseTable) -> LeaseTable:
        from oci_gpu_hook.allocation import rebuild

        return rebuild.completed(readable, self._dir, self.processes)


def stamp_of(directory: str) -> tuple[int, int]:
    """Return a value that changes when the file in a state directory is replaced: inode and time of change."""
    try:
        found = os.lstat(os.path.join(directory, RECORD))
    except OSError:
        return (0, 0)
    return found.st_ino, found.st_mtime_ns
