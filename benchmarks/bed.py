"""What the benchmarks run on: a simulated host or the real one, an image, and containers of real runc."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from oci_gpu_hook.doctor import tiny  # noqa: E402

PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
ALL = "NVIDIA_DRIVER_CAPABILITIES=all"


def run(*command: object) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


def oci_gpu(*arguments: object) -> str:
    """Run a command of this checkout."""
    command = [sys.executable, "-m", "oci_gpu_hook.cli.main", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


class Bed:
    """A directory in which devices can be opened; gone at the end."""

    def __init__(self) -> None:
        self.work = Path(tempfile.mkdtemp(prefix="oci-gpu-hook-bench-", dir="/var/tmp"))
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.work)
        self.image = self.work / "image"
        tiny.make_rootfs(str(self.image))
        self.real = os.path.exists("/proc/driver/nvidia/version")
        self.number = 0

    def close(self) -> None:
        run("umount", "--lazy", self.work)
        shutil.rmtree(self.work, ignore_errors=True)

    def host(self, gpus: int) -> str:
        """Return the configuration of a simulated host with so many GPUs."""
        directory = self.work / f"host{gpus}"
        if not directory.exists():
            oci_gpu("simulate", directory, "--gpus", gpus)
        return str(directory / "config.toml")

    def hook(self, *, python: bool = False) -> str:
        return oci_gpu("hook-path", *(["--python"] if python else [])).strip()

    def bundle(self, name: str, env: list[str], hook: list[str] | None = None) -> Path:
        """Write a bundle whose container runs a shell that does nothing; `hook` is the command line to register."""
        directory = self.work / name
        directory.mkdir(exist_ok=True)
        quiet = ["nosuid", "noexec", "nodev"]
        held = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_MKNOD"]
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "args": ["/bin/sh", "-c", ":"],
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "env": ["PATH=/usr/bin:/bin", *env],
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), held),
            },
            "root": {"path": str(self.image)},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": {
                "resources": {"devices": [{"allow": False, "access": "rwm"}]},
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            },
        }
        if hook:
            entry = {"path": hook[0], "env": [PATH]}
            config["hooks"] = {
                "prestart": [{**entry, "args": [*hook, "prestart"]}],
                "poststop": [{**entry, "args": [*hook, "poststop"]}],
            }
        (directory / "config.json").write_text(json.dumps(config))
        return directory

    def runc(self, *arguments: object) -> list[str]:
        return [str(shutil.which("runc")), "--root", str(self.work / "runc"), *map(str, arguments)]

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

    def remove(self) -> None:
        run(*self.bed.runc("delete", "--force", self.id))
