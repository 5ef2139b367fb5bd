"""What a whole container costs by each entry point: create, start, delete, with all processes that take part.

The CPU time is that of a cgroup in which the runtime, the hooks and the container run, so that processes that are not
children of the started command count too. The wall time is that of `create`, which an engine waits for.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesos import launches

from tests.runtime import cdi_engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bed import Bed

GPU = ["NVIDIA_VISIBLE_DEVICES=all"]
_SETTLED = 0.03  # seconds until a worker of the resident waits again
PYTHON = "/usr/bin/python3"
BARE = "python3 -I -S -c pass"
PEER_HOOK = "nvidia-container-runtime-hook"
PEER_SPECIFICATION = "nvidia-ctk"
PEER_RUNTIMES = ("nvidia-container-runtime", "nvidia-container-runtime.cdi")
AT_ONCE = 64


class Meter:
    """A cgroup that counts CPU time; children are started in one below it, and containers in others.

    No process is in the cgroup itself: on v2 a runtime would make the cgroups below it threaded ("no internal
    processes", cgroups(7)).
    """

    def __init__(self) -> None:
        name = f"oci-gpu-hook-bench-{os.getpid()}"
        self.path = f"/{name}"
        v1 = Path("/sys/fs/cgroup/cpuacct")
        self.directory = (v1 if v1.exists() else Path("/sys/fs/cgroup")) / name
        self.is_v1 = v1.exists()
        self.processes = self.directory / "processes"
        self.processes.mkdir(parents=True, exist_ok=True)

    def usage(self) -> float:
        """Return the CPU seconds of everything that has run in the cgroup and below it."""
        if self.is_v1:
            return int((self.directory / "cpuacct.usage").read_text()) / 1e9
        line = next(line for line in (self.directory / "cpu.stat").read_text().splitlines() if "usage_usec" in line)
        return int(line.split()[1]) / 1e6

    def begin(self, command: list[str], environment: dict[str, str] | None = None) -> int:
        """Start a command in the cgroup; return its pid."""
        pid = os.fork()
        if not pid:
            try:
                procs = os.open(self.processes / "cgroup.procs", os.O_WRONLY)
                os.write(procs, b"0")
                null = os.open(os.devnull, os.O_RDWR)
                for fd in (0, 1):
                    os.dup2(null, fd)
                os.execve(command[0], command, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})})
            finally:
                os._exit(127)
        return pid

    def run(self, *commands: list[str], environment: dict[str, str] | None = None) -> None:
        """Run commands in the cgroup, all at once. Raises SystemExit where one fails."""
        pids = [self.begin(command, environment) for command in commands]
        for command, pid in zip(commands, pids, strict=True):
            _, status = os.waitpid(pid, 0)
            if status:
                raise SystemExit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")

    def close(self) -> None:
        for path in sorted(self.directory.rglob("*"), reverse=True):
            if path.is_dir():
                with suppress(OSError):
                    path.rmdir()
        with suppress(OSError):
            self.directory.rmdir()


@dataclass
class Door:
    """A way by which a container gets its GPUs: a runtime's command line, and a bundle.

    afterwards: what takes back, unmeasured, what a container leaves by this door alone; the next door's start would.
    """

    name: str
    runtime: list[str]
    bundle: Path | None
    afterwards: list[str] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    config: bytes = b""

    def run(self, bed: Bed, meter: Meter) -> None:
        """Run one container from create to delete; without a bundle, the command."""
        if self.bundle is None:
            before, started = meter.usage(), time.perf_counter()
            meter.run(self.runtime)
            self.wall.append(time.perf_counter() - started)
            self.cpu.append(meter.usage() - before)
            return
        if not self.config:
            self.config = (self.bundle / "config.json").read_bytes()
        (self.bundle / "config.json").write_bytes(self.config)  # the runtime door changes it, as every bundle is new
        name = bed.next_id()
        before = meter.usage()
        started = time.perf_counter()
        meter.run([*self.runtime, "create", "--bundle", str(self.bundle), name])
        wall = time.perf_counter() - started
        meter.run([*self.runtime, "start", name])
        self._wait(bed, name)
        meter.run([*self.runtime, "delete", "--force", name])
        time.sleep(_SETTLED)
        self.cpu.append(meter.usage() - before)
        self.wall.append(wall)
        if self.afterwards:
            state = {"id": name, "status": "stopped", "pid": 0, "bundle": str(self.bundle)}
            subprocess.run(self.afterwards, input=json.dumps(state).encode(), check=True)

    def run_at_once(self, bed: Bed, meter: Meter) -> tuple[float, float]:
        """Run many containers at the same time; return the CPU seconds of all, and the wall seconds of `create`."""
        assert self.bundle is not None
        names = [bed.next_id() for _ in range(AT_ONCE)]
        bundles = []
        for name in names:  # each has its own bundle, rootfs and cgroup, as engines make them
            bundles.append(bed.work / f"at-once-{name}")
            bundles[-1].mkdir()
            config = json.loads(self.config or (self.bundle / "config.json").read_bytes())
            config["linux"]["cgroupsPath"] = f"{meter.path}/{name}"
            image, config["root"]["path"] = config["root"]["path"], str(bundles[-1] / "rootfs")
            subprocess.run(["cp", "-al", image, config["root"]["path"]], check=True)
            (bundles[-1] / "config.json").write_text(json.dumps(config))
        before, started = meter.usage(), time.perf_counter()
        creates = [
            [*self.runtime, "create", "--bundle", str(bundle), name]
            for name, bundle in zip(names, bundles, strict=True)
        ]
        meter.run(*creates)
        wall = time.perf_counter() - started
        meter.run(*([*self.runtime, "start", name] for name in names))
        for name in names:
            self._wait(bed, name)
        meter.run(*([*self.runtime, "delete", "--force", name] for name in names))
        time.sleep(_SETTLED)
        used = meter.usage() - before
        for name, bundle in zip(names, bundles, strict=True):
            if self.afterwards:
                state = {"id": name, "status": "stopped", "pid": 0, "bundle": str(bundle)}
                subprocess.run(self.afterwards, input=json.dumps(state).encode(), check=True)
            shutil.rmtree(bundle)
        return used, wall

    def _wait(self, bed: Bed, name: str) -> None:
        """Wait until the container's process has ended, without a process in the meter."""
        state = bed.work / "runc" / name / "state.json"
        pid = int(state.read_text().partition('"init_process_pid":')[2].partition(",")[0])
        for _ in range(2000):
            try:
                status = Path(f"/proc/{pid}/stat").read_text()
            except OSError:
                return
            if status.rpartition(")")[2].split()[0] in "ZX":
                return
            time.sleep(0.0005)


def by_cdi(specification: str, bundle: Path, *, hooks_alone: bool = False) -> Path:
    """Put a specification's edits for all devices into a bundle, as an engine that reads CDI does."""
    path = bundle / "config.json"
    config = json.loads(path.read_bytes())
    document = json.loads(specification)
    if hooks_alone:
        hooks = document.get("containerEdits", {}).get("hooks", [])
        document = {"devices": [{"name": "all", "containerEdits": {}}], "containerEdits": {"hooks": hooks}}
    cdi_engine.apply(document, ("all",), config)
    path.write_text(json.dumps(config))
    return bundle


def doors(bed: Bed, meter: Meter) -> list[Door]:
    """Return the doors that there are on this machine."""
    runc = bed.runc()
    hook = [bed.hook(), *([] if bed.real else ["--config", bed.host(1)])]

    def bundle(name: str, *arguments: Any) -> Path:
        return bed.bundle(name, *arguments, cgroups_path=f"{meter.path}/container")

    found = [
        Door(BARE, [PYTHON, "-I", "-S", "-c", "pass"], None),
        Door("plain", runc, bundle("door-plain", [])),
        Door("oci-gpu-hook, nothing asked", runc, bundle("door-nothing", [], hook)),
        Door("oci-gpu-hook, prestart", runc, bundle("door-prestart", GPU, hook, ("prestart",)), [*hook, "poststop"]),
        Door("oci-gpu-hook, prestart and poststop", runc, bundle("door-both", GPU, hook)),
        Door("oci-gpu-runtime, nothing asked", bed.runtime(), bundle("door-runtime-nothing", [])),
        Door("oci-gpu-runtime", bed.runtime(), bundle("door-runtime", GPU)),
    ]
    for name, capabilities in (("", "compute,utility"), (", all", "all")):
        made = by_cdi(bed.specification(capabilities), bundle(f"door-our-cdi-{capabilities[:3]}", []))
        found.append(Door(f"CDI specification of ours{name}", runc, made))
    alone = by_cdi(bed.specification("compute,utility"), bundle("door-cdi-hook", []), hooks_alone=True)
    found.append(Door("its createContainer hook alone", runc, alone))
    if shutil.which(PEER_SPECIFICATION):
        made = by_cdi(bed.peers_specification(PEER_SPECIFICATION), bundle("door-their-cdi", []))
        found.append(Door("CDI specification of NVIDIA's, all", runc, made))
    return [*found, *_peers(bed, runc, bundle)]


def _peers(bed: Bed, runc: list[str], bundle: Callable[..., Path]) -> list[Door]:
    """Return the doors of NVIDIA's toolkit, which needs a real GPU, as far as they are on PATH; tell what is not."""
    paths = {name: shutil.which(name) for name in (PEER_HOOK, *PEER_RUNTIMES)}
    left_out = [name for name, path in paths.items() if not (bed.real and path)]
    if left_out:
        why = "not on PATH" if bed.real else "this host has no NVIDIA driver"
        print(f"without {', '.join(left_out)}: {why}", file=sys.stderr)
    found = []
    for name, path in paths.items():
        if name in left_out or path is None:
            continue
        if name == PEER_HOOK:
            found.append(Door(name, runc, bundle("door-peer", GPU, [path], ("prestart",))))
        else:
            found.append(Door(name, [path, *runc[1:]], bundle(f"door-{name}", GPU)))
    return found


def whole_containers(bed: Bed, rounds: int) -> None:
    """Measure every door in turn, and print what each adds to a plain container."""
    meter = Meter()
    try:
        found = doors(bed, meter)
        for number in range(rounds + 1):
            for door in found:
                door.run(bed, meter)
                if not number:
                    door.cpu.clear()
                    door.wall.clear()
        tell(found)
        launches(bed, meter, rounds, statistics.median(found[0].cpu))
        tell_at_once([(door.name, *door.run_at_once(bed, meter)) for door in found if door.bundle])
    finally:
        meter.close()


def tell(found: list[Door]) -> None:
    """Print what each door costs, what it adds to a plain container, and how many bare interpreters that is."""
    cpu = {door.name: statistics.median(door.cpu) * 1000 for door in found}
    least = {door.name: min(door.cpu) * 1000 for door in found}
    wall = {door.name: statistics.median(door.wall) * 1000 for door in found}
    bare, plain = cpu.pop(BARE), cpu["plain"]
    heading = "create, start, delete by door"
    columns = ("CPU ms", "added", "x bare", "least", "added", "create wall", "added")
    print(f"\n{heading:36} " + " ".join(f"{name:>{max(8, len(name))}}" for name in columns))
    print(f"{BARE:36} {bare:8.1f} {'':8} {'':8} {least[BARE]:8.1f}")
    for name, used in cpu.items():
        print(
            f"{name:36} {used:8.1f} {used - plain:8.1f} {(used - plain) / bare:8.2f} {least[name]:8.1f}"
            f" {least[name] - least['plain']:8.1f} {wall[name]:11.1f} {wall[name] - wall['plain']:8.1f}"
        )


def tell_at_once(rows: list[tuple[str, float, float]]) -> None:
    """Print what many containers at the same time cost each, and what each door adds to a plain one."""
    plain = next(cpu for name, cpu, _ in rows if name == "plain")
    print(f"\n{f'{AT_ONCE} at once, for each':36} {'CPU ms':>8} {'added':>8} {'create wall ms, all':>20}")
    for name, cpu, wall in rows:
        each = 1000 / AT_ONCE
        print(f"{name:36} {cpu * each:8.1f} {(cpu - plain) * each:8.1f} {wall * 1000:20.0f}")
