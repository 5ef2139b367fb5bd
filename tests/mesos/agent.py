"""Stands in for a Mesos agent with the isolators filesystem/linux, docker/runtime, cgroups/devices (and gpu/nvidia).

One process an executor: `agent.py SPEC` provisions, isolates, launches, waits and destroys. It prints one line of JSON
a container that has ended. SIGTERM kills what runs. Facts: tests/data/mesos/launches.json, to which test_stand_in.py
holds it. SPEC is a JSON file; the defaults of a container are in `Container`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tarfile
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.append(os.path.realpath(f"{os.path.realpath(__file__)}/../../.."))
from tests.mesos import launch_infos, linux
from tests.mesos.container import Container, container_config
from tests.mesos.executor import sealed
from tests.mesos.launch_infos import HIERARCHIES, NODES, SANDBOX

WHITELIST = (
    *("c *:* m", "b *:* m", "c 5:1 rwm", "c 4:0 rwm", "c 4:1 rwm", "c 136:* rwm", "c 5:2 rwm", "c 10:200 rwm"),
    *("c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 5:0 rwm", "c 1:9 rwm", "c 1:8 rwm"),
)
AS_IT_IS: Any = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}


class Agent:
    """An agent with its directories; `launcher` is --launcher_dir."""

    def __init__(self, directory: str, launcher: str, *, seal: bool, nodes: list[str]) -> None:
        self.work = Path(directory, "agent")
        self.runtime = Path(directory, "run")
        self.launcher = launcher
        self.seal = seal
        self.nodes = nodes  # /dev/nvidia* for the stock isolator
        self.running: list[int] = []

    def run(self, container: Container) -> None:
        """Launch a topmost container, those nested in it, and destroy them when they have ended."""
        Launched(self, container, None).run()

    def program(self, path: str) -> str:
        return sealed(path) if self.seal else path


class Launched:
    """A container between its launch and its end."""

    def __init__(self, agent: Agent, container: Container, parent: Launched | None) -> None:
        self.agent, self.container, self.parent = agent, container, parent
        self.path: str = f"{parent.path}/mesos/{container.id}" if parent else f"/mesos/{container.id}"
        above = parent.runtime if parent else agent.runtime
        self.runtime: Path = above / "containers" / container.id
        sandboxes = parent.sandbox / "containers" if parent else agent.work / "slaves/S0/frameworks/F0/executors/e/runs"
        self.sandbox: Path = sandboxes / container.id
        name = self.path[1:].replace("/mesos/", "/containers/").removeprefix("mesos/")
        self.provisioned: Path = agent.work / "provisioner/containers" / name
        self.rootfs = ""
        self.pid = 0
        own = parent is None or container.own_cgroup
        self.devices_path: str = self.path if parent is None or container.own_cgroup else parent.devices_path
        self.cgroups = [HIERARCHIES / "freezer" / self.path[1:]]
        self.cgroups += [HIERARCHIES / "devices" / self.path[1:]] if own else []

    def run(self) -> None:
        try:
            self._prepare()
            how = self._launch()
            self._report(self._run_nested() if how is None else how)
        finally:
            self._destroy()

    def _prepare(self) -> None:
        self.sandbox.mkdir(parents=True)
        self.sandbox.chmod(0o777)
        (self.runtime / "devices").mkdir(parents=True)
        for name, (major, minor) in NODES.items():
            os.mknod(self.runtime / "devices" / name, 0o020666, os.makedev(major, minor))
        for cgroup in self.cgroups:
            cgroup.mkdir(parents=True)
        if HIERARCHIES / "devices" / self.path[1:] in self.cgroups:
            self._restrict_devices()
        if self.container.image:
            self.rootfs = self._provision()
        if self.container.checkpoint:
            (self.runtime / "config").write_bytes(container_config(self.container, str(self.sandbox)))

    def _restrict_devices(self) -> None:
        directory = HIERARCHIES / "devices" / self.path[1:]
        (directory / "devices.deny").write_text("a")
        rules = list(WHITELIST)
        if self.container.granted is not None and not self.parent:
            rules += ["c 195:255 rwm", "c 510:0 rwm"] + [f"c 195:{minor} rwm" for minor in self.container.granted]
        for rule in rules:
            (directory / "devices.allow").write_text(rule)

    def _provision(self) -> str:
        """Unpack the layers of the image once, and mount them under a directory of the container's own."""
        with tarfile.open(self.container.image) as archive:
            image = launch_infos.read_json(archive, "manifest.json")[0]
        store = self.agent.work / "store"
        layers: list[str] = []
        for number, layer in enumerate(image["Layers"]):
            at = store / f"{Path(self.container.image).name}-{number}"
            if not at.exists():
                unpacked = at.with_name(f"{at.name}.{os.getpid()}")  # another agent of the test may be at it, too
                unpacked.mkdir(parents=True)
                with (
                    tarfile.open(self.container.image) as archive,
                    tarfile.open(fileobj=archive.extractfile(layer)) as files,
                ):
                    files.extractall(unpacked, **AS_IT_IS)
                try:
                    unpacked.rename(at)
                except OSError:  # ENOTEMPTY: the other was there first
                    if not at.exists():
                        raise
            layers.insert(0, str(at))
        name = str(uuid.uuid4())
        backend = self.provisioned / "backends/overlay"
        rootfs, scratch = backend / "rootfses" / name, backend / "scratch" / name
        for path in (rootfs, scratch / "upperdir", scratch / "workdir"):
            path.mkdir(parents=True)
        options = f"lowerdir={':'.join(layers)},upperdir={scratch}/upperdir,workdir={scratch}/workdir"
        linux.mount("overlay", str(rootfs), "overlay", 0, options)
        return str(rootfs)

    def _launch(self) -> int | None:
        """Fork, isolate, let go. Returns how the container ended, None where it hosts nested ones."""
        gate, let_go = os.pipe()
        read, write = os.pipe()
        monitor = os.fork()
        if monitor == 0:
            os.close(let_go)
            self._become_helper(gate, read, write)
        os.close(gate)
        first = self._first_process(monitor)
        (self.cgroups[0] / "cgroup.procs").write_text(str(first))
        os.write(let_go, b"x")
        os.close(let_go)
        self.pid = first
        self.agent.running.append(first)
        try:
            (HIERARCHIES / "devices" / self.devices_path[1:] / "cgroup.procs").write_text(str(first))
            os.close(read)
            os.write(write, b"x")
        except OSError as error:
            print(json.dumps({"agent": str(error)}), file=sys.stderr)
        os.close(write)
        self.monitor = monitor
        if self.container.nested:
            return None
        return os.waitpid(monitor, 0)[1]

    def _first_process(self, monitor: int) -> int:
        """Return the helper's pid: below one process for each pid namespace on the way to the container's."""
        pid = monitor
        for _ in self._pid_namespaces():
            while not (children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
                time.sleep(0.001)
            pid = int(children[0])
        return pid

    def _pid_namespaces(self) -> list[str]:
        """Return the pid namespaces that the helper is born in, by the process that each is entered by; "" is new."""
        above = []
        if self.parent and self.parent.container.pid_namespace:
            above = [f"/proc/{self.parent.pid}/ns/pid"]
        if self.container.kind == "debug":
            return above
        return [*above, ""] if self.container.pid_namespace else []

    def _become_helper(self, gate: int, read: int, write: int) -> None:
        status = 127
        try:
            for namespace in self._pid_namespaces():
                if namespace:
                    linux.enter(namespace, linux.CLONE_NEWPID)
                else:
                    linux.unshare(linux.CLONE_NEWPID)
                child = os.fork()
                if child:
                    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)
            os.read(gate, 1)
            if self.container.kind != "debug":
                linux.unshare(linux.CLONE_NEWNS)
            os.setsid()
            for fd, (name, flags) in enumerate((("", 0), ("stdout", 0), ("stderr", 0))):
                path = str(self.sandbox / name) if name else "/dev/null"
                opened = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND if name else os.O_RDONLY | flags, 0o644)
                os.dup2(opened, fd)
            for fd in (read, write):
                os.set_inheritable(fd, True)
            os.chdir(self.agent.work)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            path = os.path.join(self.agent.launcher, "mesos-containerizer")
            program = self.agent.program(path)
            os.execve(program, [path, "launch"], launch_infos.environment(self, read, write))
        except BaseException as error:  # noqa: BLE001  a forked child: nobody above may go on with it
            os.write(2, f"agent: {error!r}\n".encode())
        finally:
            os._exit(status)

    def _run_nested(self) -> int:
        while self.rootfs and not os.path.exists(f"/proc/{self.pid}/root{SANDBOX}"):
            time.sleep(0.01)  # an agent is asked for nested containers by one that runs
        for spec in self.container.nested:
            Launched(self.agent, Container(**spec), self).run()
        os.kill(self.pid, signal.SIGKILL)
        return os.waitpid(self.monitor, 0)[1]

    def _report(self, how: int) -> None:
        texts = {name: (self.sandbox / name).read_text(errors="replace") for name in ("stdout", "stderr")}
        status = os.waitstatus_to_exitcode(how)
        print(json.dumps({"id": self.container.id, "status": status, **texts}), flush=True)

    def _destroy(self) -> None:
        for cgroup in reversed(self.cgroups):
            if cgroup.exists():
                for pid in (cgroup / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
        if self.rootfs:
            linux.umount(self.rootfs)
        for cgroup in reversed(self.cgroups):
            remove_cgroup(cgroup)
        shutil.rmtree(self.runtime, ignore_errors=True)
        shutil.rmtree(self.provisioned, ignore_errors=True)


def remove_cgroup(cgroup: Path) -> None:
    """Remove a cgroup, those in it first; its processes may take a moment to be gone."""
    for path, _, _ in os.walk(cgroup, topdown=False):
        for _ in range(200):
            try:
                os.rmdir(path)
                break
            except OSError:
                time.sleep(0.01)


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    agent = Agent(spec["directory"], spec["launcher"], seal=spec["seal"], nodes=spec["nodes"])

    def kill(_number: int, _frame: object) -> None:
        for pid in agent.running:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    signal.signal(signal.SIGTERM, kill)
    agent.work.mkdir(parents=True, exist_ok=True)
    agent.run(Container(**spec["container"]))


if __name__ == "__main__":
    main()
