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
import struct
import sys
import tarfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(os.path.dirname(os.path.realpath(__file__)))
import linux
from executor import sealed

NODES = {"full": (1, 7), "null": (1, 3), "random": (1, 8), "tty": (5, 0), "urandom": (1, 9), "zero": (1, 5)}
WHITELIST = (
    *("c *:* m", "b *:* m", "c 5:1 rwm", "c 4:0 rwm", "c 4:1 rwm", "c 136:* rwm", "c 5:2 rwm", "c 10:200 rwm"),
    *("c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 5:0 rwm", "c 1:9 rwm", "c 1:8 rwm"),
)
MASKED_IN_PROC = "acpi asound kcore keys key-users latency_stats sched_debug scsi timer_list timer_stats"
MASKED = (*(f"proc/{name}" for name in MASKED_IN_PROC.split(" ")), "sys/firmware")
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
HIERARCHIES = Path("/sys/fs/cgroup")
AS_IT_IS = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
SANDBOX = "/mnt/mesos/sandbox"
AGENT_ENVIRONMENT = {
    "LIBPROCESS_IP": "127.0.0.1",
    "LIBPROCESS_MEMORY_PROFILING": "false",
    "LIBPROCESS_PORT": "5051",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}


@dataclass
class Container:
    """What is launched. kind: command (a task, by mesos-executor), custom (an executor or nested task), debug.

    image: a docker-archive tar, "" for the host's file system. gpus: resource, 0 for none. granted: minors that the
    stock isolator has given, None where it is off. volume: its copy of the driver. own_cgroup: share_cgroups=false.
    more: other members of the launch information. fill: bytes that it is to have as an entry of the environment.
    """

    kind: str = "command"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    image: str = ""
    command: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    user: str = "root"
    gpus: float = 0
    granted: list[int] | None = None
    volume: str = ""
    pid_namespace: bool = False
    own_cgroup: bool = False
    capabilities: list[str] | None = None
    pre_exec: list[dict] = field(default_factory=list)
    nested: list[dict] = field(default_factory=list)
    checkpoint: bool = True
    more: dict = field(default_factory=dict)
    fill: int = 0


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
        self.path = f"{parent.path}/mesos/{container.id}" if parent else f"/mesos/{container.id}"
        above = parent.runtime if parent else agent.runtime
        self.runtime = above / "containers" / container.id
        sandboxes = parent.sandbox / "containers" if parent else agent.work / "slaves/S0/frameworks/F0/executors/e/runs"
        self.sandbox = sandboxes / container.id
        self.rootfs = ""
        self.pid = 0
        own = parent is None or container.own_cgroup
        self.devices_path = self.path if own else parent.devices_path
        self.cgroups = [HIERARCHIES / "freezer" / self.path[1:]]
        self.cgroups += [HIERARCHIES / "devices" / self.path[1:]] if own else []

    def run(self) -> None:
        try:
            self._prepare()
            how = self._launch()
            if not how and self.container.nested and self.container.kind == "custom":
                how = self._run_nested()
            self._report(how)
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
            image = json.loads(archive.extractfile("manifest.json").read())[0]
        store = self.agent.work / "store"
        layers = []
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
                if not at.exists():
                    unpacked.rename(at)
            layers.insert(0, str(at))
        name = str(uuid.uuid4())
        backend = (
            self.agent.work
            / "provisioner/containers"
            / self.path[1:].replace("/mesos/", "/containers/").removeprefix("mesos/")
            / "backends/overlay"
        )
        rootfs, scratch = backend / "rootfses" / name, backend / "scratch" / name
        for path in (rootfs, scratch / "upperdir", scratch / "workdir"):
            path.mkdir(parents=True)
        options = f"lowerdir={':'.join(layers)},upperdir={scratch}/upperdir,workdir={scratch}/workdir"
        linux.mount("overlay", str(rootfs), "overlay", 0, options)
        return str(rootfs)

    def image_environment(self) -> dict[str, str]:
        if not self.container.image:
            return {}
        with tarfile.open(self.container.image) as archive:
            image = json.loads(archive.extractfile("manifest.json").read())[0]
            config = json.loads(archive.extractfile(image["Config"]).read())
        environment = dict(entry.split("=", 1) for entry in config["config"]["Env"])
        if self.container.volume and environment.get("NVIDIA_VISIBLE_DEVICES", "void") != "void":
            environment["PATH"] += ":/usr/local/nvidia/bin"
            environment["LD_LIBRARY_PATH"] = "/usr/local/cuda/compat:/usr/local/nvidia/lib:/usr/local/nvidia/lib64"
        return environment

    def mounts(self) -> list[dict]:
        root = self.rootfs
        mounts = [{"flags": 20480, "source": root, "target": root}]
        mounts.append({"flags": 14, "source": "proc", "target": f"{root}/proc", "type": "proc"})
        for name in READ_ONLY:
            path = f"{root}/proc/{name}"
            if os.path.exists(f"/proc/{name}"):
                mounts.append({"flags": 4111, "source": path, "target": path})
        mounts += [
            {"flags": 15, "source": "sysfs", "target": f"{root}/sys", "type": "sysfs"},
            {"flags": 14, "options": "mode=755", "source": "tmpfs", "target": f"{root}/sys/fs/cgroup", "type": "tmpfs"},
            {"flags": 16777226, "options": "mode=755", "source": "tmpfs", "target": f"{root}/dev", "type": "tmpfs"},
            {
                "flags": 10,
                "options": "newinstance,ptmxmode=0666,mode=0620,gid=5",
                "source": "devpts",
                "target": f"{root}/dev/pts",
                "type": "devpts",
            },
            {
                "flags": 16777222,
                "options": "mode=1777",
                "source": "tmpfs",
                "target": f"{root}/dev/shm",
                "type": "tmpfs",
            },
        ]
        devices = [(f"{self.runtime}/devices/{name}", name) for name in sorted(NODES)]
        if self.container.granted is not None:
            devices += [(self._copied_node(path), os.path.basename(path)) for path in self.agent.nodes]
        mounts += [{"flags": 4096, "source": path, "target": f"{root}/dev/{name}"} for path, name in devices]
        mounts.append({"flags": 20480, "source": str(self.sandbox), "target": f"{root}{SANDBOX}"})
        if self.container.volume:
            target = f"{root}/usr/local/nvidia"
            mounts.append({"flags": 20481, "source": self.container.volume, "target": target})
        return mounts

    def _copied_node(self, path: str) -> str:
        found = os.stat(path)
        copy = self.runtime / "devices" / os.path.basename(path)
        os.mknod(copy, 0o020666, found.st_rdev)
        copy.chmod(0o666)
        return str(copy)

    def cgroup_mounts(self) -> list[dict]:
        target = f"{self.rootfs}/sys/fs/cgroup"
        pairs = (("devices", self.devices_path), ("freezer", self.path))
        return [{"flags": 20480, "source": f"{HIERARCHIES}/{n}{p}", "target": f"{target}/{n}"} for n, p in pairs]

    def launch_info(self) -> dict:
        """Return what the isolators and the agent have put together."""
        container = self.container
        if container.kind == "debug":
            above = self.parent.launch_info()
            return {
                "command": container.command,
                "enter_namespaces": [linux.CLONE_NEWNS, *above.get("enter_namespaces", [])],
                "environment": above["environment"],
                "task_environment": {},
                "user": "root",
                "working_directory": SANDBOX,
            }
        namespaces = [linux.CLONE_NEWNS] + [linux.CLONE_NEWPID] * container.pid_namespace
        info: dict = {"clone_namespaces": namespaces}
        if self.parent and container.pid_namespace:
            info["enter_namespaces"] = [linux.CLONE_NEWPID]
        image = self.image_environment()
        own = {"MESOS_SANDBOX": SANDBOX if container.image else str(self.sandbox)}
        if not self.parent:
            own |= {"LIBPROCESS_IP": "127.0.0.1", "MESOS_EXECUTOR_ID": "e", "MESOS_FRAMEWORK_ID": "F0"}
        by_executor = container.kind == "command" and container.image
        environment = own | container.environment if by_executor else own | image | container.environment
        proc = [{"flags": 14, "source": "proc", "target": "/proc", "type": "proc"}] * container.pid_namespace
        info |= {
            "command": self._executor(image) if by_executor else container.command,
            "environment": variables(environment),
            "task_environment": variables(image) if by_executor else {},
            "user": "root" if by_executor else container.user,
            "working_directory": str(self.sandbox) if by_executor or not container.image else SANDBOX,
        }
        if container.image:
            root = self.rootfs
            links = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1"}
            links |= {"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}
            info["file_operations"] = [
                {"operation": "SYMLINK", "symlink": {"source": source, "target": f"{root}/dev/{name}"}}
                for name, source in links.items()
            ]
            info["masked_paths"] = [f"{root}/{path}" for path in MASKED]
            info["mounts"] = [*self.mounts(), *([] if by_executor else self.cgroup_mounts()), *proc]
        elif proc:
            info["mounts"] = proc
        info |= container.more
        if container.pre_exec and not by_executor:
            info["pre_exec_commands"] = container.pre_exec
        if container.image and not by_executor:
            info["rootfs"] = self.rootfs
            if container.capabilities is not None:
                info["bounding_capabilities"] = {"capabilities": container.capabilities}
        return info

    def _executor(self, image: dict[str, str]) -> dict:
        container = self.container
        info = {"clone_namespaces": [linux.CLONE_NEWNS], "mounts": self.cgroup_mounts()}
        if container.pre_exec:
            info["pre_exec_commands"] = container.pre_exec
        arguments = {
            "launcher_dir": self.agent.launcher,
            "sandbox_directory": SANDBOX,
            "user": container.user,
            "task_command": json.dumps(container.command | {"environment": variables(container.environment)}),
            "task_launch_info": json.dumps(info),
            "task_environment": json.dumps(variables(image)),
            "rootfs": self.rootfs,
        }
        if container.capabilities is not None:
            arguments["bounding_capabilities"] = json.dumps({"capabilities": container.capabilities})
        if self.agent.seal:
            arguments["sealed"] = "1"
        value = os.path.realpath(os.path.join(self.agent.launcher, "mesos-executor"))
        return {
            "shell": False,
            "value": value,
            "arguments": ["mesos-executor", *(f"--{name}={text}" for name, text in arguments.items())],
        }

    def environment(self, read: int, write: int) -> dict[str, str]:
        """Return the environment of the helper: the agent's own, and its flags."""
        info = self.launch_info()
        if self.container.fill:
            named = len(f"MESOS_CONTAINERIZER_LAUNCH_INFO={json.dumps(info | {'fill': ''}, separators=(',', ':'))}")
            info["fill"] = "x" * (self.container.fill - named)
        flags = {
            "HELP": "false",
            "LAUNCH_INFO": json.dumps(info, separators=(",", ":")),
            "PIPE_READ": str(read),
            "PIPE_WRITE": str(write),
            "RUNTIME_DIRECTORY": str(self.runtime),
            "UNSHARE_NAMESPACE_MNT": "false",
        }
        if self.container.kind == "debug":
            flags["NAMESPACE_MNT_TARGET"] = str(self.parent.pid)
        return AGENT_ENVIRONMENT | {f"MESOS_CONTAINERIZER_{name}": text for name, text in flags.items()}

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
        above = self.parent and self.parent.container.pid_namespace
        if self.container.kind == "debug":
            return [f"/proc/{self.parent.pid}/ns/pid"] if above else []
        new = [""] if self.container.pid_namespace else []
        return [f"/proc/{self.parent.pid}/ns/pid", *new] if above and new else new

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
            os.execve(program, [path, "launch"], self.environment(read, write))
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
        shutil.rmtree(self.agent.work / "provisioner/containers" / self.container.id, ignore_errors=True)


def remove_cgroup(cgroup: Path) -> None:
    """Remove a cgroup, those in it first; its processes may take a moment to be gone."""
    for path, _, _ in os.walk(cgroup, topdown=False):
        for _ in range(200):
            try:
                os.rmdir(path)
                break
            except OSError:
                time.sleep(0.01)


def variables(environment: dict[str, str]) -> dict:
    return {"variables": [{"name": name, "type": "VALUE", "value": value} for name, value in environment.items()]}


def container_config(container: Container, sandbox: str) -> bytes:
    """Return the agent's checkpoint of what was launched: a length and a ContainerConfig (numbers: its .proto)."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)

    def text(number: int, value: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(value)) + value

    def resource(name: str, amount: float) -> bytes:
        scalar = varint(1 << 3 | 1) + struct.pack("<d", amount)
        return text(1, name.encode()) + varint(2 << 3) + varint(0) + text(3, scalar) + text(6, b"*")

    given = {"cpus": 0.1, "mem": 32.0} | ({"gpus": container.gpus} if container.gpus else {})
    message = text(3, sandbox.encode()) + text(4, b"root") + text(11, text(3, b"x" * 300))
    message += b"".join(text(13, resource(name, amount)) for name, amount in given.items())
    message += varint(14 << 3) + varint(1)
    return struct.pack("=I", len(message)) + message


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
