"""Whole processes measured from outside: CPU seconds (user + system, with children) and wall seconds, interleaved."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Case:
    """A command to measure. `before` and `after` run around each measured run and are not counted; before may return
    the bytes for stdin. `samples` holds (cpu, wall) of each run."""

    name: str
    command: list[str]
    before: Callable[[], bytes | None] = lambda: None
    after: Callable[[], object] = lambda: None
    stdin: bytes = b""
    samples: list[tuple[float, float]] = field(default_factory=list)

    def run(self, *, keep: bool = True) -> None:
        stdin = self.before() or self.stdin
        memory = os.memfd_create("stdin")
        os.write(memory, stdin)
        os.lseek(memory, 0, os.SEEK_SET)
        null = os.open(os.devnull, os.O_WRONLY)
        actions = [(os.POSIX_SPAWN_DUP2, memory, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
        started = time.perf_counter()
        pid = os.posix_spawn(
            self.command[0], self.command, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, file_actions=actions
        )
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - started
        os.close(memory)
        os.close(null)
        self.after()
        if status:
            raise SystemExit(
                f"{self.name}: {' '.join(self.command)} ended with status {os.waitstatus_to_exitcode(status)}"
            )
        if keep:
            self.samples.append((usage.ru_utime + usage.ru_stime, wall))

    @property
    def cpu(self) -> float:
        return statistics.median(sample[0] for sample in self.samples)

    @property
    def wall(self) -> float:
        return statistics.median(sample[1] for sample in self.samples)

    @property
    def least_cpu(self) -> float:
        """The least CPU time, in seconds."""
        return min(sample[0] for sample in self.samples)

    @property
    def least(self) -> float:
        """The least wall time: what it takes when nothing else is in the way."""
        return min(sample[1] for sample in self.samples)

    def spread(self) -> str:
        """Return first and third quartile of CPU time in milliseconds."""
        low, _, high = statistics.quantiles((sample[0] * 1000 for sample in self.samples), n=4)
        return f"{low:.1f}-{high:.1f}"


def interleave(cases: list[Case], rounds: int) -> None:
    """Run every case once per round, so that a machine whose speed drifts treats all alike; the first round is lost."""
    for round_number in range(rounds + 1):
        for case in cases:
            case.run(keep=round_number > 0)
