"""Boots systemd in a container of its own (systemd-nspawn) on this machine, does the guest's work, and ends it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pynvml

import oci_gpu_hook
from tests.runtime import rootfs as images

REPOSITORY = Path(__file__).parents[2]
PACKAGE = Path(oci_gpu_hook.__file__).parent
TIMEOUT = 240  # seconds, for booting and all steps; about 25 are needed


class Machine:
    """A directory that the guest shares, with what it needs; `boot` returns what happened there.

    Its systemd runs with cgroup v2, also where the machine's are v1: of those systemd-nspawn passes the device
    controller on read-only, and a systemd that cannot write device rules takes nothing away.
    """

    def __init__(self, root: Path) -> None:
        self.work = Path(tempfile.mkdtemp(prefix="oci-gpu-hook-systemd-", dir="/var/tmp"))
        self.work.chmod(0o755)
        self._root = root
        self.libexec = self.work / "libexec"
        self._name = f"oci-gpu-hook-systemd-{os.getpid()}"
        self.report: dict[str, Any] = {}

    def stage(self, program: Path, settings: dict, config: str) -> None:
        """Lay what the guest needs: the package, an image with the watcher, and a unit that runs the program.

        `program` is a file of this repository; it is given the settings as a file of JSON. `config` is the hook's, of a
        host below `work`. Executables the guest lays itself, for its own Python, in `libexec`.
        """
        with Path(config).open("a") as file:
            file.write(f'\n[log]\nfile = "{self.work}/hook.log"\n')
        package = self.work / "package"
        shutil.copytree(PACKAGE, package / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(pynvml.__file__, package)
        common = {"work": str(self.work), "package": str(package), "libexec": str(self.libexec), "config": config}
        (self.work / "settings.json").write_text(json.dumps(common | settings))
        (self.work / "guest.service").write_text(
            "[Unit]\nDescription=Steps of a test\nAfter=dbus.socket\nWants=dbus.socket\n"
            f"[Service]\nType=oneshot\nExecStart=/usr/bin/python3 {program} {self.work}/settings.json\n"
            "KillMode=process\nExecStopPost=/bin/systemctl poweroff --force --force\n"
            f"StandardOutput=file:{self.work}/output\nStandardError=file:{self.work}/output\n"
        )

    def image(self) -> Path:
        """Return an image with the watcher in it, made first."""
        image = images.build("debian", self.work / "images")
        source = Path(__file__).with_name("watch.c")
        command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o", str(image / "watch"), str(source)]
        subprocess.run(command, check=True)
        return image

    def log_directory(self, name: str) -> str:
        """Make the directory of a watcher's log, in which any user may write."""
        directory = self.work / "logs" / name
        directory.mkdir(parents=True)
        directory.chmod(0o777)
        return str(directory)

    def boot(self, timeout: float = TIMEOUT, *, network: bool = False) -> dict:
        """Boot, do the guest's work, power off; return its report. Raises RuntimeError with what was said instead.

        network: whether the guest has this machine's network, otherwise none.
        """
        command = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
            "--volatile=overlay",
            *(() if network else ("--private-network",)),
            "--console=passive",
            "--capability=all",
            "--system-call-filter=keyctl add_key bpf @keyring",
            f"--directory={self._root}",
            f"--bind={self.work}",
            f"--bind-ro={REPOSITORY}",
            f"--bind-ro={self.work}/guest.service:/etc/systemd/system/guest.service",
            "--",
            "systemd.wants=guest.service",
            "systemd.log_target=null",
        ]
        top = _cgroup2()
        assert top
        cgroup = top / self._name
        cgroup.mkdir()
        console = self.work / "console"
        started = time.monotonic()
        enter = f'echo $$ > {cgroup}/cgroup.procs && exec "$@"'
        environment = os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_LOG_LEVEL": "warning"}
        with console.open("wb") as file:
            process = subprocess.Popen(
                ["sh", "-c", enter, "sh", *command], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment
            )
            try:
                process.wait(timeout)
            finally:
                if process.poll() is None:
                    process.kill()  # the first process of the guest is its child, and dies with it
                    process.wait()
        report = self.work / "report.json"
        if not report.exists():
            output = self.work / "output"
            said = output.read_text() if output.exists() else ""
            raise RuntimeError(f"no report\n{console.read_text(errors='replace')[-3000:]}\n{said[-3000:]}")
        return json.loads(report.read_text()) | {"seconds": time.monotonic() - started}

    def log(self, name: str) -> list[tuple[float, str, str]]:
        """Return a watcher's log: time, what opening the granted node gave, what the neighbour's gave."""
        lines = [line.split() for line in (self.work / "logs" / name / "log").read_text().splitlines()]
        return [(float(time), granted, neighbour) for time, granted, neighbour in lines]

    def warnings(self) -> list[tuple[str, str]]:
        """Return what the hook has warned of: container, text."""
        events = [json.loads(line) for line in (self.work / "hook.log").read_text().splitlines()]
        return [(event["container"], event["text"]) for event in events if event["event"] == "warning"]

    def close(self) -> None:
        """Leave nothing behind."""
        for path in _cgroup_mounts():  # systemd-nspawn makes some in each hierarchy, and leaves them
            _remove(path / self._name)
        subprocess.run(["rm", "-rf", "--one-file-system", self.work], check=True)


def missing() -> str:
    """Say what keeps systemd-nspawn from working here; "" when nothing does."""
    if os.geteuid() != 0:
        return "needs root (mounts, device nodes, cgroups); run: sudo make test"
    absent = [tool for tool in ("gcc", "systemd-nspawn") if not shutil.which(tool)]
    if absent:
        return f"not installed: {' '.join(absent)}; run: make test, as root"
    return "" if _cgroup2() else "systemd-nspawn cannot run: no cgroup2 file system is mounted"


def _cgroup2() -> Path | None:
    return next((path for path, kind in _cgroup_mounts().items() if kind == "cgroup2"), None)


def _cgroup_mounts() -> dict[Path, str]:
    """Return the mounts of cgroup file systems: mount point → type."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ")[0]
        if kind in ("cgroup", "cgroup2"):
            found[Path(before.split()[4])] = kind
    return found


def _remove(cgroup: Path) -> None:
    """Remove a cgroup and those in it; what died in them is let go by the kernel a moment later."""
    deadline = time.monotonic() + 5
    while cgroup.exists():
        try:
            for directory, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(directory)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
