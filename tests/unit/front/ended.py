"""A container that has ended, and the front at its poststop."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from oci_gpu_hook.allocation.holders import INITIAL_PID_NAMESPACE
from oci_gpu_hook.apply.journal import changes as made
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.processes import boot_id, start_time

if TYPE_CHECKING:
    from typing import Any

    from oci_gpu_hook.apply.journal.changes import Change

CHANGES = (
    made.directory("/usr/lib/gpu", passing=False),
    made.file("/usr/lib/gpu/libcuda.so.1", passing=False),
    made.link("/usr/lib/libcuda.so", "libcuda.so.1", "", passing=False),
    made.node("/usr/lib/null", os.makedev(1, 3), passing=False),
    made.file("/dev/passing", passing=True),
)
# What the image had before, beside /usr/lib.
IMAGE = ("usr/lib/kept", "dev/passing")


def dead_process() -> tuple[int, int]:
    """Return pid and start time of a process that has ended."""
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        found = process.pid, start_time(process.pid)
        process.kill()
    return found


@dataclass
class Host:
    """A state directory with a container that has ended, its rootfs, and a front before a witness."""

    directory: Path
    front: str
    id: str = "c"
    changes: tuple[Change, ...] = CHANGES
    more: dict[str, Any] = field(default_factory=dict)
    config: Config = field(default_factory=Config)

    def __post_init__(self) -> None:
        self.config = Config(state_dir=str(self.directory / "state"))
        self.rootfs = self.directory / "rootfs"
        self.toml = self.directory / "config.toml"
        self.toml.write_text(f'[log]\nlevel = "info"\n[state] # where\ndir = "{self.directory}/state/"\n')
        self.bundle = self.directory / "bundle"
        self.bundle.mkdir()
        (self.bundle / "config.json").write_text("{}")

    @property
    def journal(self) -> Path:
        return self.directory / "state/containers"

    def start(self) -> Entry:
        """Do what a start does: write the entry, make the changes, hold a lease; then the container ends."""
        self.make_rootfs()
        entry = self.entry(**self.more)
        journal.record(self.config, entry.rootfs_identity, lambda: entry)
        for kind, path, target, device, _was, _passing in self.changes:
            place = self.rootfs / path[1:]
            if kind == made.DIRECTORY:
                place.mkdir()
            elif kind == made.FILE:
                place.touch()
            elif kind == made.LINK:
                place.symlink_to(target)
            else:
                os.mknod(place, 0o20644, device)
        self.hold(self.lease(entry))
        return entry

    def make_rootfs(self) -> None:
        for name in IMAGE:
            (self.rootfs / name).parent.mkdir(parents=True, exist_ok=True)
            (self.rootfs / name).write_bytes(b"")

    def entry(self, **more: Any) -> Entry:
        pid, started = dead_process()
        status = self.rootfs.stat()
        fd = os.open(self.rootfs, os.O_PATH)
        born = syscalls.birth(fd)
        os.close(fd)
        return Entry(
            id=self.id,
            pid=pid,
            start_time=started,
            bundle=str(self.bundle),
            rootfs=str(self.rootfs),
            rootfs_identity=(status.st_dev, status.st_ino),
            rootfs_born=born,
            gpus=("GPU-1",),
            changes=self.changes,
            boot_id=boot_id(),
            hook=(pid, started),
        ).replace(**more)

    def lease(self, entry: Entry, **more: Any) -> dict[str, Any]:
        return {
            "container": entry.id,
            "devices": [{"gpu": "GPU-1", "mig": ""}],
            "exclusive": False,
            "pid": entry.pid,
            "startTime": entry.start_time,
            "bootId": entry.boot_id,
            "pidNamespace": INITIAL_PID_NAMESPACE,
            "since": "2026-11-27T00:00:00Z",
            "starting": False,
        } | more

    def hold(self, *leases: dict[str, Any]) -> None:
        (self.directory / "state/leases.lock").touch(0o600)
        table = {"version": 1, "nextTicket": 7, "leases": list(leases), "queue": []}
        (self.directory / "state/leases.json").write_text(json.dumps(table))

    def leases(self) -> list[dict[str, Any]]:
        table = json.loads((self.directory / "state/leases.json").read_bytes())
        assert (table["version"], table["nextTicket"], table["queue"]) == (1, 7, [])
        return list(table["leases"])

    def stop(self, stage: str = "poststop", before: tuple[str, ...] = (), **members: Any) -> bool:
        """Run the hook, by another program where `before` names one; return whether it has started Python."""
        state = {"id": self.id, "pid": 0, "status": "stopped", "bundle": str(self.bundle)} | members
        done = subprocess.run(
            [*before, self.front, "--config", str(self.toml), stage],
            input=json.dumps(state).encode(),
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode in (0, 42), done
        assert done.stderr == b""
        if done.returncode:
            assert json.loads(json.loads(done.stdout)["stdin"]) == state
        return done.returncode == 42

    def left(self) -> list[str]:
        """Return what is in the rootfs beside the image's own files."""
        names = (str(path.relative_to(self.rootfs)) for path in sorted(self.rootfs.rglob("*")))
        return [name for name in names if name not in (*IMAGE, "usr", "usr/lib", "dev")]

    def entries(self) -> list[str]:
        return sorted(name for name in os.listdir(self.journal) if name != ".lock")
