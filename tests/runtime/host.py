"""The host that the tests' runtimes run on: a mount namespace of its own, and what may not change in it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).with_name("namespace.sh")
# Where tests and benchmarks mount file systems on the machine itself. A host begins with all that is mounted there, and
# it changes in every namespace when the run that made it renames or removes the directories below.
_OF_RUNS = ("/tmp/pytest-of-", "/var/tmp/oci-gpu-hook-")


class Host:
    """A mount namespace with one cgroup layout (`v1`, `v1-only`, `v2`), held open by a process until `close`.

    `own`: namespaces of other kinds that are its own as well, such as `net` and `uts`.
    Raises RuntimeError with the words of the failed command where the machine does not let it be made.
    """

    def __init__(self, work: Path, layout: str, own: tuple[str, ...] = ()) -> None:
        self.layout = layout
        self._work = str(work)
        self._own = own
        self._holder = subprocess.Popen(
            ["unshare", "--mount", *(f"--{kind}" for kind in own), "sh", SCRIPT, work, layout],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout
        if self._holder.stdout.readline() != "ready\n":
            _, complaint = self._holder.communicate()
            raise RuntimeError(complaint.strip())

    def __repr__(self) -> str:
        return f"Host({self.layout!r})"

    def command(self, *arguments: object) -> list[str]:
        """Return the command that runs `arguments` here, with cwd `/`."""
        names = ["--mount=/proc/{}/ns/mnt", *(f"--{kind}=/proc/{{}}/ns/{kind}" for kind in self._own)]
        return ["nsenter", *(name.format(self._holder.pid) for name in names), "--wd=/", "--", *map(str, arguments)]

    def call(self, *arguments: object, check: bool = True, **options) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end and return what it wrote."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, timeout=60, **options
        )
        if check and done.returncode:
            raise RuntimeError(f"{arguments}: {done.stderr}")
        return done

    def path(self, path: object) -> Path:
        """Return a path by which this process sees `path` of the namespace, mounts included."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def mounts(self) -> list[str]:
        """Return the mount table, without what other runs of tests and benchmarks have on the machine."""
        lines = Path(f"/proc/{self._holder.pid}/mountinfo").read_text().splitlines()
        return [line for line in lines if not self._is_of_another_run(line.split()[4])]

    def _is_of_another_run(self, path: str) -> bool:
        return path.startswith(_OF_RUNS) and not f"{path}/".startswith(f"{self._work}/")

    def cgroups_named(self, name: str) -> list[str]:
        """Return the cgroups of that name, in every hierarchy, children first."""
        walk = os.walk(self.path("/sys/fs/cgroup"), topdown=False)
        # crun makes such a directory with a file cgroup.procs in the tmpfs that hides `unified`, too. A cgroup of v1
        # has `tasks`, one of v2 `cgroup.events`.
        own = (path for path, _, files in walk if name in path.split("/") and {"tasks", "cgroup.events"} & {*files})
        return list(own)

    def remove_cgroups(self, name: str) -> None:
        """Remove the cgroups of that name: a container that fails under crun leaves its own."""
        for path in self.cgroups_named(name):
            os.rmdir(path)

    def close(self) -> None:
        """End the holder, and with it the namespace and its mounts."""
        assert self._holder.stdin
        assert self._holder.stdout
        assert self._holder.stderr
        self._holder.stdin.close()
        self._holder.wait(timeout=10)
        self._holder.stdout.close()
        self._holder.stderr.close()


def tree(root: Path) -> dict[str, tuple]:
    """Return what every file below `root` is: type, owner, size, times, device, target. Not the times of directories.

    A directory's times cannot be put back by one who made and removed a mountpoint in it.
    """
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            info = os.lstat(path)
            facts: tuple = (stat.filemode(info.st_mode), info.st_uid, info.st_gid)
            if not stat.S_ISDIR(info.st_mode):
                facts += (info.st_size, info.st_mtime_ns, info.st_ino, info.st_rdev, info.st_nlink)
            if stat.S_ISLNK(info.st_mode):
                facts += (os.readlink(path),)
            found[os.path.relpath(path, root)] = facts
    return found


def contents(root: Path) -> dict[str, tuple]:
    """Return what every file below `root` is and holds, whenever and however it came there."""
    found = {}
    for name, facts in tree(root).items():
        path = root / name
        data = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[name] = (*facts[:3], data)
    return found


def difference(before: dict[str, tuple], after: dict[str, tuple]) -> list[str]:
    """Say in a line each what changed between two trees; nothing when they are the same."""
    lines = [f"+ {name} {after[name]}" for name in sorted(after.keys() - before.keys())]
    lines += [f"- {name} {before[name]}" for name in sorted(before.keys() - after.keys())]
    both = sorted(before.keys() & after.keys())
    return lines + [f"~ {name} {before[name]} -> {after[name]}" for name in both if before[name] != after[name]]
