"""A container without a runtime: a process in a mount namespace of its own, and a directory that is its rootfs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oci_gpu_hook.apply import cleanup, status, transaction
from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.apply.process import Process, Site, open_rootfs
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.base import processes
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.formats.ldcache import Entry as Library
from oci_gpu_hook.base.formats.ldcache import flags_for
from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, GeneratedFile, Mount, Symlink
from oci_gpu_hook.oci.image import MACHINE, Image
from oci_gpu_hook.plan.plan import Plan

NULL = DeviceNode(
    path="/dev/null", host_path="/dev/null", type="c", major=1, minor=3, file_mode=0o666, uid=0, gid=0, permissions="rw"
)
_OWN = ("ro", "nosuid", "nodev", "noexec")


ANYTHING: Any = SimpleNamespace  # stands for values of which little is looked at
NO_REQUEST = ANYTHING()  # no kind of edit looks at it


def plan(**parts) -> Plan:
    """Return a plan that has only these edits."""
    edits = {name: parts.pop(name) for name in ("mounts", "device_nodes") if name in parts}
    image = Image(libc="glibc", library_directory="/usr/lib64", ld_cache=parts.pop("image_cache", b""))
    fields = {"links": (), "files": (), "ld_cache": (), **parts}
    return Plan(
        request=NO_REQUEST, image=image, devices=(), edits=ContainerEdits(**edits), driver_version="1", **fields
    )


def bind(source: Path, path: str, *, directory: bool = False) -> Mount:
    return Mount(host_path=str(source), container_path=path, directory=directory)


def own(path: str) -> Mount:
    return Mount(host_path="tmpfs", container_path=path, options=_OWN, type="tmpfs", directory=True)


def library(path: str) -> Library:
    return Library(name=os.path.basename(path), path=path, flags=flags_for(MACHINE, 64))


class Written:
    """A journal in memory: the entry of a container that is given one plan."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.entry: Entry | None = None

    def write(self, look):
        work = look()
        plan = work.plan
        nodes = plan.edits.device_nodes
        self.entry = self.container.entry(
            changes=work.changes,
            cached=work.cached,
            mounted=work.mounted,
            mounts=tuple(mount.container_path for mount in plan.edits.mounts),
            nodes=tuple((node.major, node.minor) for node in nodes),
            node_paths=tuple(node.path for node in nodes),
            ld_cache=tuple(library.path for library in plan.ld_cache),
        )
        return work

    def ld_cache_path(self):
        return str(self.container.state / "ld.so.cache")

    def undo(self, work):
        cleanup.take_back(self.container.rootfs, work.changes)


class Container:
    def __init__(self, directory: Path, process: Process) -> None:
        self.root = directory / "rootfs"
        self.state = directory / "state"
        self.process = process
        self.value = ANYTHING(
            id="c1",
            pid=process.pid,
            rootfs=str(self.root),
            root_readonly=False,
            namespaces=frozenset({"mount"}),
            cgroups_path="",
            device_rules=(),
            uid_mappings=(),
            gid_mappings=(),
        )
        self.rootfs = open_rootfs(self.value, process)

    def entry(self, **fields) -> Entry:
        return Entry(
            id="c1",
            pid=self.process.pid,
            start_time=processes.start_time(self.process.pid),
            bundle="/b",
            rootfs=str(self.root),
            rootfs_identity=(1, 2),
            gpus=(),
            **fields,
        )

    def give(self, plan: Plan, confirm=lambda: None) -> Entry:
        """Carry out a plan; return the entry that was written before anything was made."""
        written = Written(self)
        site = Site(container=self.value, process=self.process, rootfs=self.rootfs, config=Config())
        self.warnings = transaction.carry_out(plan, site, (), written, confirm)
        assert written.entry is not None
        return written.entry

    def lost(self, entry: Entry):
        with Process(self.process.pid) as now:  # what was read of mountinfo before is of before
            return list(status.look(entry, now, self.rootfs, Config()))

    def take_back(self, entry: Entry) -> None:
        """Do what poststop does: from the host's mount namespace, where none of the mounts is."""
        with Rootfs(os.open(self.root, os.O_PATH | os.O_DIRECTORY)) as rootfs:
            cleanup.clean(rootfs, entry, ended=True)

    def inside(self, *command: str) -> str:
        """Run a program of the host in the container's mount namespace."""
        enter = ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", "--", *command]
        return subprocess.run(enter, capture_output=True, text=True, check=True).stdout

    def tree(self) -> dict[str, tuple]:
        """Return what the rootfs has, without what is mounted there."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            about = path.lstat()
            found[str(path.relative_to(self.root))] = (
                about.st_mode,
                about.st_rdev,
                os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b"",
            )
        return found


@pytest.fixture
def container(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounts need root")
    umask = os.umask(0)  # as the transaction sets it
    for name in ("rootfs/dev", "rootfs/usr/lib64", "state"):
        (tmp_path / name).mkdir(parents=True)
    command = ["unshare", "--mount", "--propagation", "private", "cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        with Process(child.pid) as process:
            found = Container(tmp_path, process)
            with found.rootfs:
                yield found
        child.stdin.close()
    os.umask(umask)


@pytest.fixture
def source(tmp_path):
    """A file of the host."""
    path = tmp_path / "libcuda.so.1"
    path.write_text("of the driver")
    return path


def samples(source: Path) -> dict[str, Plan]:
    """Return a plan with an edit of each kind, by the kind's module."""
    return {
        "tmpfs": plan(
            mounts=(own("/proc/driver/nvidia"), bind(source, "/proc/driver/nvidia/gpus/0/information")),
            files=(GeneratedFile(path="/proc/driver/nvidia/params", contents=b"ModifyDeviceFiles: 0\n"),),
        ),
        "bind": plan(mounts=(bind(source, "/usr/lib64/libcuda.so.1"), bind(source.parent, "/run/d", directory=True))),
        "symlink": plan(links=(Symlink(path="/usr/lib64/deeper/libcuda.so", target="libcuda.so.1"),)),
        "device_node": plan(device_nodes=(NULL,)),
        "ld_cache": plan(ld_cache=(library("/usr/lib64/libcuda.so.1"),)),
    }
