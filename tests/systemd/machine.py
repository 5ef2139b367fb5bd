"""Boots systemd in a container of its own (systemd-nspawn) on this machine, does the guest's work, and ends it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pynvml

import oci_gpu_hook
from tests.runtime import bundle as bundles
from tests.runtime import rootfs as images
from tests.runtime.fixtures import HOOK_ENVIRONMENT

REPOSITORY = Path(__file__).parents[2]
PACKAGE = Path(oci_gpu_hook.__file__).parent
TIMEOUT = 240  # seconds, for booting and all steps; about 25 are needed
# Docker's and Podman's containers have all of these, runc's default rules besides.
_DENY = {"allow": False, "access": "rwm"}
_MKNOD = {"allow": True, "type": "c", "access": "m"}


class Machine:
    """A directory that the guest shares, with what it needs; `boot` returns what happened there.

    Its systemd runs with cgroup v2, also where the machine's are v1: of those systemd-nspawn passes the device
    controller on read-only, and a systemd that cannot write device rules takes nothing away.
    """

    def __init__(self, root: Path) -> None:
        self.work = Path(tempfile.mkdtemp(prefix="oci-gpu-hook-systemd-", dir="/var/tmp"))
        self.work.chmod(0o755)
        self._root = root
        self._hook = self.work / "libexec/oci-gpu-hook"  # laid by the guest, for its own Python
        self._name = f"oci-gpu-hook-systemd-{os.getpid()}"

    def prepare(self, config: str) -> None:
        """Write bundles, hook registrations and settings. `config` is the hook's, of a host below `work`."""
        with Path(config).open("a") as file:
            file.write(f'\n[log]\nfile = "{self.work}/hook.log"\n')
        image = images.build("debian", self.work / "images")
        source = Path(__file__).with_name("watch.c")
        command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o", image / "watch", source]
        subprocess.run(command, check=True)
        package = self.work / "package"
        shutil.copytree(PACKAGE, package / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(pynvml.__file__, package)
        policies = dict.fromkeys(("told", "untold", "lost", "kept"), (_DENY, _MKNOD))
        policies["free"] = ({"allow": True, "access": "rwm"},)
        settings = {
            "work": str(self.work),
            "package": str(package),
            "libexec": str(self._hook.parent),
            "config": config,
            "bundles": {name: str(self._bundle(name, devices, config)) for name, devices in policies.items()},
            "podman": self._podman(config),
        }
        (self.work / "settings.json").write_text(json.dumps(settings))
        (self.work / "guest.service").write_text(
            "[Unit]\nDescription=Steps of a test\nAfter=dbus.socket\nWants=dbus.socket\n"
            f"[Service]\nType=oneshot\nExecStart=/usr/bin/python3 {__file__.replace('machine.py', 'guest.py')} "
            f"{self.work}/settings.json\n"
            "KillMode=process\nExecStopPost=/bin/systemctl poweroff --force --force\n"
            f"StandardOutput=file:{self.work}/output\nStandardError=file:{self.work}/output\n"
        )

    def _bundle(self, name: str, devices: tuple[dict, ...], config: str) -> Path:
        directory = self.work / "bundles" / name
        directory.mkdir(parents=True)
        images.copy(self.work / "images/debian", directory / "rootfs")
        made = bundles.make(
            directory,
            ["/watch", "/log/log", "/dev/nvidia0"],
            env=("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"),
            hooks={stage: [self._entry(stage, config)] for stage in ("prestart", "poststop")},
            devices=devices,
            mounts=({"destination": "/log", "type": "bind", "source": self._log(name), "options": ["rbind"]},),
        )
        # SLICE:PREFIX:NAME; what the unit is called has a character that systemd escapes.
        made.config["linux"]["cgroupsPath"] = "system.slice:gpu:" + (r"kept\x2dname" if name == "kept" else name)
        made.write()
        return directory

    def _entry(self, stage: str, config: str) -> dict:
        arguments = ["oci-gpu-hook", "--config", config, stage]
        return {"path": str(self._hook), "args": arguments, "env": HOOK_ENVIRONMENT}

    def _log(self, name: str) -> str:
        directory = self.work / "logs" / name
        directory.mkdir(parents=True)
        return str(directory)

    def _podman(self, config: str) -> dict[str, list[str]]:
        """Return Podman's commands, with the hook registered in a directory of its own, as operators do."""
        hooks = self.work / "hooks.d"
        hooks.mkdir()
        for stage in ("prestart", "poststop"):
            document = {
                "version": "1.0.0",
                "hook": self._entry(stage, config),
                "when": {"always": True},
                "stages": [stage],
            }
            (hooks / f"gpu-{stage}.json").write_text(json.dumps(document))
        podman = ["podman", "--cgroup-manager=systemd", "--events-backend=none", "--storage-driver=vfs"]
        podman += [f"--root={self.work}/podman", f"--hooks-dir={hooks}", "--runtime=runc"]
        rootfs = self.work / "bundles/podman"
        images.copy(self.work / "images/debian", rootfs)
        create = ["run", "--detach", "--name=podman", "--network=none", "--log-driver=none", "--cap-add=MKNOD"]
        create += ["--env=NVIDIA_VISIBLE_DEVICES=0", "--env=NVIDIA_DRIVER_CAPABILITIES=compute,utility"]
        create += [
            "--ulimit=nofile=1000:1000",
            "--ulimit=nproc=1000:1000",
            "--pids-limit=-1",
            f"--volume={self._log('podman')}:/log",
        ]
        create += ["--security-opt=seccomp=unconfined", "--rootfs", str(rootfs), "/watch", "/log/log", "/dev/nvidia0"]
        return {
            "create": [*podman, *create],
            "pid": [*podman, "inspect", "--format={{.State.Pid}}", "podman"],
            "update": [*podman, "update", "--cpu-shares=512", "podman"],
            "remove": [*podman, "rm", "--force", "--time=0", "podman"],
        }

    def boot(self) -> dict:
        """Boot, do the guest's work, power off; return its report. Raises RuntimeError with what was said instead."""
        command = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
            "--volatile=overlay",
            "--private-network",
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
        cgroup = _cgroup2() / self._name
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
                process.wait(TIMEOUT)
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
        return [(event["container"], event["text"]) for event in events if event["level"] == "warning"]

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
