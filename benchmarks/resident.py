"""What a hook costs with the resident: the CPU of all processes, of the resident too, which are nobody's children.

The resident runs in a cgroup below that of the front; what is told of a start is what both have used until its workers
wait again.
"""

from __future__ import annotations

import fcntl
import os
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from bed import Created
from doors import BARE, PYTHON, Door, Meter, tell

from oci_gpu_hook.admin.install import front_file
from tests.runtime import residents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bed import Bed

GPU = ["NVIDIA_VISIBLE_DEVICES=all"]
AT_ONCE = 64
_SETTLED = 0.03  # seconds until a worker waits again, or has ended
_READS = 0.002  # seconds until a shell that has entered its cgroup waits


@dataclass
class Row:
    """A call of the hook. `run` makes it and returns CPU and wall seconds."""

    name: str
    run: Callable[[], tuple[float, float]]
    bar: float = 0.0
    samples: list[tuple[float, float]] = field(default_factory=list)

    def median(self, what: int) -> float:
        return statistics.median(sample[what] for sample in self.samples) * 1000

    def least(self, what: int) -> float:
        return min(sample[what] for sample in self.samples) * 1000


class Bench:
    """A resident on a bed, a front that asks it, and one that does not."""

    def __init__(self, bed: Bed, meter: Meter) -> None:
        self.bed = bed
        self.meter = meter
        self.config = bed.host(1)
        self.plain = bed.hook()
        place = bed.work / "libexec-resident"
        bed.oci_gpu("hook-path", "--directory", place)
        hook, runtime = place / "oci-gpu-hook", place / "oci-gpu-runtime"
        address = bed.work / "resident" / "socket"
        for path, role in ((hook, "hook"), (runtime, "runtime")):
            front = front_file.read_front(str(path))
            assert front
            front_file.write_front(str(path), role, front.interpreter, front.stub, front.program, str(address))
        self.served = str(hook)
        self.served_runtime = [str(runtime), *bed.runc()[1:]]
        self.listening = residents.listen(address)
        below = meter.directory / "resident"
        below.mkdir()
        enter = ("sh", "-c", f'echo 0 > {below}/cgroup.procs; exec "$@"', "sh")
        self.resident = residents.Resident(self.listening, hook, bed.work / "resident-said", before=enter)
        self.resident.wait_until_ready()
        # The front reads the state directory's path only where it is written as everybody writes it.
        self.odd = bed.work / "odd.toml"
        lines = Path(self.config).read_text().splitlines()
        self.odd.write_text("\n".join(each.replace('"', "'") if each.startswith("dir") else each for each in lines))
        self.bundle = bed.bundle("resident", GPU)

    def close(self) -> None:
        self.resident.end()
        self.listening.close()
        time.sleep(0.1)  # until its workers have left the cgroup

    def command(self, command: list[str]) -> tuple[float, float]:
        return self._measured(command, b"")

    def prestart(self, front: str) -> tuple[float, float]:
        created = Created(self.bed, self.bundle)
        state = created.make()
        used = self._measured([front, "--config", self.config, "prestart"], state)
        ended = created.stopped()
        created.remove()
        subprocess.run([self.plain, "--config", self.config, "poststop"], input=ended, check=True)
        return used

    def poststop(self, front: str, config: str | Path) -> tuple[float, float]:
        created = Created(self.bed, self.bundle)
        command = [self.plain, "--config", str(config), "prestart"]
        subprocess.run(command, input=created.make(), check=True)
        ended = created.stopped()
        created.remove()
        return self._measured([front, "--config", str(config), "poststop"], ended)

    def at_once(self, front: str) -> tuple[float, float]:
        """Start the hook for many containers at the same time."""
        many = [Created(self.bed, self.bundle) for _ in range(AT_ONCE)]
        states = [each.make() for each in many]
        children = [self._begin([front, "--config", self.config, "prestart"], state) for state in states]
        before, started = self.meter.usage(), time.perf_counter()
        for _, go in children:
            os.close(go)
        failed = sum(os.waitpid(child, 0)[1] != 0 for child, _ in children)
        wall = time.perf_counter() - started
        time.sleep(10 * _SETTLED)
        cpu = self.meter.usage() - before
        if failed:
            raise SystemExit(f"{front}: {failed} of {AT_ONCE} failed")
        for each in many:
            ended = each.stopped()
            each.remove()
            subprocess.run([self.plain, "--config", self.config, "poststop"], input=ended, check=True)
        return cpu, wall

    def _measured(self, command: list[str], stdin: bytes) -> tuple[float, float]:
        child, go = self._begin(command, stdin)
        before, started = self.meter.usage(), time.perf_counter()
        os.close(go)
        _, status = os.waitpid(child, 0)
        wall = time.perf_counter() - started
        time.sleep(_SETTLED)
        if status:
            raise SystemExit(f"{command}: ended with status {os.waitstatus_to_exitcode(status)}")
        return self.meter.usage() - before, wall

    def _begin(self, command: list[str], stdin: bytes) -> tuple[int, int]:
        """Have a shell in the cgroup that becomes the command; return its pid, and what to close when it is to do so.

        A fork of this process, which is large, would cost a tenth of the interpreter, and would be counted.
        """
        memory = os.memfd_create("stdin")
        os.write(memory, stdin)
        os.lseek(memory, 0, os.SEEK_SET)
        waiting, go = os.pipe()
        entered, entering = os.pipe()
        above = {fd: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (memory, waiting, entering)}
        numbers = {memory: 0, waiting: 8, entering: 9}  # of one digit, as a shell has them
        actions = [(os.POSIX_SPAWN_DUP2, above[fd], number) for fd, number in numbers.items()]
        script = (
            f'echo 0 > {self.meter.processes}/cgroup.procs; echo >&9; exec 9>&-; read -r _ <&8; exec 8<&-; exec "$@"'
        )
        words = ["sh", "-c", script, "sh", *command]
        child = os.posix_spawn("/bin/sh", words, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, file_actions=actions)
        for fd in (*above, *above.values()):
            os.close(fd)
        os.read(entered, 1)
        os.close(entered)
        time.sleep(_READS)
        return child, go


def with_and_without(bed: Bed, rounds: int) -> None:
    """Measure a hook with the resident beside one without, and print both."""
    if not bed.has_front():
        return  # only the front asks the resident
    meter = Meter()
    bench = None
    try:
        bench = Bench(bed, meter)
        rows = _rows(bench)
        for number in range(rounds + 1):
            for row in rows:
                sample = row.run()
                row.samples += [sample] if number else []
        _tell(rows)
        doors = _doors(bench)
        for number in range(rounds + 1):
            for door in doors:
                door.run(bed, meter)
                if not number:
                    door.cpu.clear()
                    door.wall.clear()
        tell(doors)
        _tell_memory(bench)
        _tell_many(bench)
    finally:
        if bench is not None:
            bench.close()
        meter.close()


def _rows(bench: Bench) -> list[Row]:
    return [
        Row(BARE, lambda: bench.command([PYTHON, "-I", "-S", "-c", "pass"])),
        Row("prestart, 1 GPU", lambda: bench.prestart(bench.plain)),
        Row("prestart, 1 GPU, resident", lambda: bench.prestart(bench.served), 0.7),
        Row("poststop by the front", lambda: bench.poststop(bench.served, bench.config), 0.3),
        Row("poststop by Python", lambda: bench.poststop(bench.plain, bench.odd)),
        Row("poststop by the resident", lambda: bench.poststop(bench.served, bench.odd)),
    ]


def _doors(bench: Bench) -> list[Door]:
    """Return whole containers, as Docker and containerd start them."""
    bed, path = bench.bed, f"{bench.meter.path}/container"
    names = ("plain", "oci-gpu-runtime", "oci-gpu-runtime, resident")
    runtimes = (bed.runc(), bed.runtime(), bench.served_runtime)
    found = [Door(BARE, [PYTHON, "-I", "-S", "-c", "pass"], None)]
    for number, (name, runtime) in enumerate(zip(names, runtimes, strict=True)):
        bundle = bed.bundle(f"resident-door{number}", GPU if number else [], cgroups_path=path)
        found.append(Door(name, runtime, bundle))
    return found


def _tell(rows: list[Row]) -> None:
    bare = rows[0]
    columns = f"{'CPU ms':>8} {'x bare':>7} {'bar':>5} {'least':>7} {'x bare':>7} {'wall ms':>8} least"
    print(f"\n{'with the resident':28} {columns}")
    for row in rows:
        print(
            f"{row.name:28} {row.median(0):8.2f} {row.median(0) / bare.median(0):7.2f} {row.bar or '':>5}"
            f" {row.least(0):7.2f} {row.least(0) / bare.least(0):7.2f} {row.median(1):8.2f} {row.least(1):5.2f}"
        )


def _tell_memory(bench: Bench) -> None:
    own = {pid: _memory(pid) for pid in (bench.resident.pid, *bench.resident.workers())}
    manager, *workers = own.values()
    print(f"memory: the resident {manager['Rss'] / 1024:.1f} MiB (bar 30), of which libraries are shared;")
    print(f"  of a worker's own at most {max(each['Private_Dirty'] for each in workers) / 1024:.1f} MiB (bar 6)")


def _memory(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def _tell_many(bench: Bench) -> None:
    cpu, wall = bench.at_once(bench.plain)
    served_cpu, served_wall = bench.at_once(bench.served)
    print(
        f"{AT_ONCE} at once: CPU {cpu:.2f} s without, {served_cpu:.2f} s with ({served_cpu / cpu:.2f}, bar 0.6);",
        end="",
    )
    print(f" wall {wall:.2f} s without, {served_wall:.2f} s with; {len(bench.resident.workers())} workers afterwards")
