"""What the benchmarks run on: a simulated host or the real one, an image, and containers of real runc."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("OCI_GPU_BENCH_ROOT") or Path(__file__).resolve().parent.parent)  # see against.py
sys.path.insert(0, str(ROOT))
from oci_gpu_hook.admin.doctor import tiny  # noqa: E402

PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
ALL = "NVIDIA_DRIVER_CAPABILITIES=all"
STATE = Path("/run/oci-gpu-hook")


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=cwd
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


class Bed:
    """A small file system in which devices can be opened, with the package installed in it; gone at the end.

    In memory: what a file costs on a disk's file system depends on what was made and removed there before. `disk` is a
    directory on the disk, for the one row that shows that. machine: whether the machine's own configuration is to name
    a simulated host, in a mount namespace of this process's own; one bed at a time can have that.
    """

    def __init__(self, *, machine: bool = True) -> None:
        self.work = Path(tempfile.mkdtemp(prefix="oci-gpu-hook-bench-", dir="/var/tmp"))
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.work)
        self.disk = Path(tempfile.mkdtemp(prefix="oci-gpu-hook-bench-", dir="/var/tmp"))
        # Not the checkout, where every source is looked at at each start for changes.
        shutil.copytree(ROOT / "oci_gpu_hook", self.work / "site" / "oci_gpu_hook")
        for image in (self.work / "image", self.disk / "image"):
            tiny.make_rootfs(str(image))
        self.real = os.path.exists("/proc/driver/nvidia/version")
        self.number = 0
        self._is_machine = machine and not self.real
        if self._is_machine:
            self._configure()

    def _configure(self) -> None:
        """Have /etc/oci-gpu-hook/config.toml name a simulated host, in this process's mount namespace alone.

        So is /run/oci-gpu-hook, where its compiled form is kept: one bed would have to make it again after another.
        """
        STATE.mkdir(mode=0o700, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", STATE)
        layers = [self.work / name for name in ("etc", "etc-work")]
        for layer in layers:
            layer.mkdir()
        upper, work = layers
        run("mount", "-t", "overlay", "-o", f"lowerdir=/etc,upperdir={upper},workdir={work}", "overlay", "/etc")
        target = Path("/etc/oci-gpu-hook/config.toml")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(self.host(1), target)

    def close(self) -> None:
        if self._is_machine:
            run("umount", "--lazy", "/etc")
            run("umount", "--lazy", STATE)
        run("umount", "--lazy", self.work)
        for directory in (self.work, self.disk):
            shutil.rmtree(directory, ignore_errors=True)

    def has_front(self) -> bool:
        """Tell whether the package was built with the static front."""
        return (self.work / "site/oci_gpu_hook/admin/install/front.elf").exists()

    def oci_gpu(self, *arguments: object) -> str:
        """Run a command of the installed package."""
        command = [sys.executable, "-m", "oci_gpu_hook.admin.cli.main", *map(str, arguments)]
        return run(*command, cwd=self.work / "site")

    def host(self, gpus: int) -> str:
        """Return the configuration of a simulated host with so many GPUs."""
        directory = self.work / f"host{gpus}"
        if not directory.exists():
            self.oci_gpu("simulate", directory, "--gpus", gpus)
        return str(directory / "config.toml")

    def hook(self, *options: str) -> str:
        """Return what `oci-gpu hook-path` prints with the options."""
        return self.oci_gpu("hook-path", "--directory", self.work / "libexec", *options).strip()

    def specification(self, capabilities: str) -> str:
        """Return the CDI specification of the host's GPUs, as JSON, with driver capabilities."""
        of = [] if self.real else ["--config", self.host(1)]
        options = ("--format", "json", "--capabilities", capabilities, "--hook-path", self.hook())
        return self.oci_gpu(*of, "cdi", "generate", *options)

    def peers_specification(self, program: str) -> str:
        """Return the specification that NVIDIA's toolkit makes of the same host, for its nvidia-cdi-hook in PATH."""
        command = [program, "cdi", "generate", "--mode", "nvml", "--format", "json"]
        if self.real:
            return run(*command)
        host = Path(self.host(1)).parent
        made = json.loads(run(*command, "--driver-root", host / "driver", "--dev-root", host))
        for device in made["devices"]:
            for node in device["containerEdits"]["deviceNodes"]:
                node.setdefault("hostPath", f"{host}{node['path']}")  # which it leaves out of GPUs' nodes
        return json.dumps(made)

    def bundle(  # noqa: PLR0913
        self,
        name: str,
        env: list[str],
        hook: list[str] | None = None,
        stages: tuple[str, ...] = ("prestart", "poststop"),
        *,
        on_disk: bool = False,
        cgroups_path: str = "",
    ) -> Path:
        """Write a bundle whose container runs a shell that does nothing; `hook` is the command line to register."""
        directory = self.work / name
        directory.mkdir(exist_ok=True)
        quiet = ["nosuid", "noexec", "nodev"]
        held = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_MKNOD"]
        config: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "process": {
                "args": ["/bin/sh", "-c", ":"],
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "env": ["PATH=/usr/bin:/bin", *env],
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), held),
            },
            "root": {"path": str((self.disk if on_disk else self.work) / "image")},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": {
                "resources": {"devices": [{"allow": False, "access": "rwm"}]},
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            },
        }
        if cgroups_path:
            config["linux"]["cgroupsPath"] = cgroups_path
        if hook:
            entry = {"path": hook[0], "env": [PATH]}
            config["hooks"] = {stage: [{**entry, "args": [*hook, stage]}] for stage in stages}
        (directory / "config.json").write_text(json.dumps(config))
        return directory

    def runc(self, *arguments: object) -> list[str]:
        return [str(shutil.which("runc")), "--root", str(self.work / "runc"), *map(str, arguments)]

    def runtime(self) -> list[str]:
        """Return the command line of `oci-gpu-runtime`, which reads the machine's own configuration."""
        return [self.hook("--runtime"), *self.runc()[1:]]

    def next_id(self) -> str:
        self.number += 1
        return f"bench{os.getpid()}-{self.number}"


class Created:
    """A container that runc has created and not started, new for each run: what a hook is started on."""

    def __init__(self, bed: Bed, bundle: Path) -> None:
        self.bed = bed
        self.bundle = bundle
        self.id = ""

    def make(self) -> bytes:
        """Create the container and return its state as the hook reads it."""
        self.id = self.bed.next_id()
        with tempfile.TemporaryFile() as said:  # a file: the container keeps what it inherits for as long as it lives
            command = self.bed.runc("create", "--bundle", self.bundle, self.id)
            if subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=said, stderr=said).returncode:
                said.seek(0)
                raise SystemExit(said.read().decode())
        state = json.loads(run(*self.bed.runc("state", self.id)))
        kept = {name: state[name] for name in ("ociVersion", "id", "pid", "bundle")}
        return json.dumps({**kept, "status": "creating"}).encode()

    def stopped(self) -> bytes:
        """Return the state that poststop reads."""
        return json.dumps({"id": self.id, "status": "stopped", "pid": 0, "bundle": str(self.bundle)}).encode()

    def remove(self) -> None:
        run(*self.bed.runc("delete", "--force", self.id))
