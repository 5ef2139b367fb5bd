"""A container between its launch by the stand-in of an agent and its end, step by step as in Mesos 1.11."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.mesos import launch_infos, linux, provisioner
from tests.mesos.container import Container, container_config
from tests.mesos.executor import sealed
from tests.mesos.launch_infos import HIERARCHIES, NODES, SANDBOX

WHITELIST = (
    *("c *:* m", "b *:* m", "c 5:1 rwm", "c 4:0 rwm", "c 4:1 rwm", "c 136:* rwm", "c 5:2 rwm", "c 10:200 rwm"),
    *("c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 5:0 rwm", "c 1:9 rwm", "c 1:8 rwm"),
)
# Where an agent may die: each is the moment after what its name says.
STEPS = ("known", "provisioned", "configured", "prepared", "forked", "checkpointed", "isolated", "released", "ended")


class Agent:
    """An agent with its directories; `launcher` is --launcher_dir, `dies` the step at which it is killed."""

    def __init__(self, directory: str, launcher: str, *, seal: bool, nodes: list[str], dies: str = "") -> None:
        self.work = Path(directory, "agent")
        self.checkpoints = self.work / "meta"  # what is known after a restart, a directory a topmost container
        self.runtime = Path(directory, "run")
        self.launcher = launcher
        self.seal = seal
        self.nodes = nodes  # /dev/nvidia* for the stock isolator
        self.dies = dies
        self.running: list[int] = []
        self.is_to_kill = False

    def started(self, pid: int) -> None:
        """Take note of a container's process, which is to end at once where all are to end."""
        self.running.append(pid)
        if self.is_to_kill:
            self.kill()

    def kill(self) -> None:
        """End what runs, and what is being launched."""
        self.is_to_kill = True
        for pid in self.running:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

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
        self.nested: list[Launched] = []
        self.monitor = 0  # the child of this agent that ends as the container does; 0 for one that was taken over
        self.devices_path: str = self.path if parent is None or container.own_cgroup else parent.devices_path
        own = self.devices_path == self.path
        self.cgroups = [HIERARCHIES / "freezer" / self.path[1:]]
        self.cgroups += [HIERARCHIES / "devices" / self.path[1:]] if own else []

    # --- a launch ---

    def run(self) -> None:
        """Launch it and those nested in it, and destroy them when they have ended."""
        try:
            self._start()
            self._run_nested()
            self._report(os.waitpid(self.monitor, 0)[1])
        finally:
            self.destroy()

    def _start(self) -> None:
        if not self.parent:
            checkpoint = self.agent.checkpoints / self.container.id
            checkpoint.mkdir()
            new = checkpoint / "info.json.new"  # an agent that is killed leaves no half of a checkpoint
            new.write_text(json.dumps(asdict(self.container)))
            new.rename(checkpoint / "info.json")
            self._reached("known")
        self.sandbox.mkdir(parents=True)
        self.sandbox.chmod(0o777)
        if self.container.image:
            self.rootfs = provisioner.provision(self.container.image, self.agent.work / "store", self.provisioned)
        self._reached("provisioned")
        (self.runtime / "devices").mkdir(parents=True)
        if self.container.checkpoint:
            (self.runtime / "config").write_bytes(container_config(self.container, str(self.sandbox)))
        self._reached("configured")
        for name, (major, minor) in NODES.items():
            os.mknod(self.runtime / "devices" / name, 0o020666, os.makedev(major, minor))
        for cgroup in self.cgroups:
            cgroup.mkdir(parents=True)
        if self.devices_path == self.path:
            self._restrict_devices()
        self._reached("prepared")
        self._launch()

    def _restrict_devices(self) -> None:
        directory = HIERARCHIES / "devices" / self.path[1:]
        (directory / "devices.deny").write_text("a")
        rules = list(WHITELIST)
        if self.container.granted is not None and not self.parent:
            rules += ["c 195:255 rwm", "c 510:0 rwm"] + [f"c 195:{minor} rwm" for minor in self.container.granted]
        for rule in rules:
            (directory / "devices.allow").write_text(rule)

    def _launch(self) -> None:
        """Fork, isolate, let go."""
        gate, let_go = os.pipe()
        read, write = os.pipe()
        self.monitor = os.fork()
        if self.monitor == 0:
            os.close(let_go)
            self._become_helper(gate, read, write)
        os.close(gate)
        self.pid = self._first_process(self.monitor)
        self._reached("forked")
        try:
            (self.cgroups[0] / "cgroup.procs").write_text(str(self.pid))
            (self.runtime / "pid").write_text(str(self.pid))
            self.agent.started(self.pid)
            os.write(let_go, b"x")
            self._reached("checkpointed")
            (HIERARCHIES / "devices" / self.devices_path[1:] / "cgroup.procs").write_text(str(self.pid))
            self._reached("isolated")
            os.close(read)
            os.write(write, b"x")
            self._reached("released")
        except OSError as error:  # it was killed meanwhile
            print(json.dumps({"agent": str(error)}), file=sys.stderr)
        os.close(let_go)
        os.close(write)

    def _reached(self, step: str) -> None:
        """Die here as an agent does that crashes or is upgraded, where the test says so."""
        if self.agent.dies == (f"nested {step}" if self.parent else step):
            os.kill(os.getpid(), signal.SIGKILL)

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
        try:
            for fd, (name, flags) in enumerate((("", 0), ("stdout", 0), ("stderr", 0))):
                path = str(self.sandbox / name) if name else "/dev/null"
                opened = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND if name else os.O_RDONLY | flags, 0o644)
                os.dup2(opened, fd)
                os.close(opened)
            for namespace in self._pid_namespaces():
                if namespace:
                    linux.enter(namespace, linux.CLONE_NEWPID)
                else:
                    linux.unshare(linux.CLONE_NEWPID)
                child = os.fork()
                if child:
                    for fd in (gate, read, write):
                        os.close(fd)
                    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)
            if os.read(gate, 1) != b"x":
                os._exit(1)  # the agent is gone
            if self.container.kind != "debug":
                linux.unshare(linux.CLONE_NEWNS)
            os.setsid()
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
            os._exit(127)

    # --- those nested in it ---

    def _run_nested(self) -> None:
        """Run them one after another, or all at once as a task group, whose others die with one that fails."""
        if not self.container.nested:
            return
        while self.rootfs and not os.path.exists(f"/proc/{self.pid}/root{SANDBOX}"):
            time.sleep(0.01)  # an agent is asked for nested containers by one that runs
        nested = [Launched(self.agent, Container(**spec), self) for spec in self.container.nested]
        if self.container.group:
            self._run_group(nested)
        else:
            for each in nested:
                each.run()
        kill_all(self.cgroups[0])

    def _run_group(self, nested: list[Launched]) -> None:
        try:
            for each in nested:
                each._start()
            left = list(nested)
            while left:
                for each in tuple(left):
                    pid, how = os.waitpid(each.monitor, os.WNOHANG)
                    if pid:
                        left.remove(each)
                        each._report(how)
                        each.destroy()
                        if os.waitstatus_to_exitcode(how):
                            kill_all(*(other.cgroups[0] for other in left))
                time.sleep(0.01)
        finally:
            for each in nested:
                each.destroy()

    # --- a container of an agent before this one ---

    def is_known_and_lives(self) -> bool:
        """Tell whether the agent before this one had written down the container's process, and it lives."""
        try:
            self.pid = int((self.runtime / "pid").read_text())
        except (OSError, ValueError):
            return False
        return self._lives()

    def adopt(self) -> None:
        """Take it over, and those nested in it."""
        self.agent.started(self.pid)
        self.rootfs = next((str(path) for path in self.provisioned.glob("backends/overlay/rootfses/*")), "")
        nested = [Launched(self.agent, Container(**spec), self) for spec in self.container.nested]
        self.nested = [each for each in nested if each.is_known_and_lives()]
        for each in nested:
            if each in self.nested:
                each.adopt()
            else:
                each.destroy_all()

    def see_to_its_end(self) -> None:
        """Wait for the end of those nested in it and for its own, and destroy it."""
        for each in self.nested:
            each.see_to_its_end()
        if self.container.nested:
            kill_all(self.cgroups[0])
        while self._lives():
            time.sleep(0.02)
        status = self.runtime / "status"
        text = status.read_text() if status.exists() else ""
        self._report(int(text) if text else signal.SIGKILL)
        self.destroy()

    def destroy_all(self) -> None:
        """Destroy it and those nested in it, whatever there is of them."""
        for spec in self.container.nested:
            Launched(self.agent, Container(**spec), self).destroy_all()
        self.rootfs = next((str(path) for path in self.provisioned.glob("backends/overlay/rootfses/*")), "")
        self.destroy()

    def _lives(self) -> bool:
        """Tell whether its process is there, in its cgroup: the number may be another's by now."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            cgroups = Path(f"/proc/{self.pid}/cgroup").read_text()
        except OSError:
            return False
        return state != "Z" and any(line.endswith(f":freezer:{self.path}") for line in cgroups.splitlines())

    # --- its end ---

    def _report(self, how: int) -> None:
        if not self.parent:
            self._reached("ended")
        paths = {name: self.sandbox / name for name in ("stdout", "stderr")}  # absent where it was killed at once
        texts = {name: path.read_text(errors="replace") if path.exists() else "" for name, path in paths.items()}
        updates = self.agent.checkpoints / self.container.id / "updates"
        told = updates.read_text().splitlines() if updates.exists() else []
        status = os.waitstatus_to_exitcode(how)
        print(json.dumps({"id": self.container.id, "status": status, **texts, "updates": told}), flush=True)

    def destroy(self) -> None:
        """Kill what is left of it, and take everything of it away."""
        kill_all(*self.cgroups)
        if self.rootfs and os.path.ismount(self.rootfs):
            linux.umount(self.rootfs)
        for cgroup in reversed(self.cgroups):
            remove_cgroup(cgroup)
        shutil.rmtree(self.runtime, ignore_errors=True)
        shutil.rmtree(self.provisioned, ignore_errors=True)
        if not self.parent:
            (self.agent.checkpoints / self.container.id / "info.json").unlink(missing_ok=True)


def kill_all(*cgroups: Path) -> None:
    """Kill every process of cgroups and of those in them."""
    for path in (path for cgroup in cgroups for path, _, _ in os.walk(cgroup)):
        for pid in Path(path, "cgroup.procs").read_text().split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue


def remove_cgroup(cgroup: Path) -> None:
    """Remove a cgroup, those in it first; its processes may take a moment to be gone."""
    for path, _, _ in os.walk(cgroup, topdown=False):
        for _ in range(200):
            try:
                os.rmdir(path)
                break
            except OSError:
                time.sleep(0.01)
