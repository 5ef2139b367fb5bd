"""What the isolators of an agent put into a launch: its information and the helper's environment."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.mesos import linux

if TYPE_CHECKING:
    from tests.mesos.launched import Launched

HIERARCHIES = Path("/sys/fs/cgroup")
SANDBOX = "/mnt/mesos/sandbox"
NODES = {"full": (1, 7), "null": (1, 3), "random": (1, 8), "tty": (5, 0), "urandom": (1, 9), "zero": (1, 5)}
MASKED_IN_PROC = "acpi asound kcore keys key-users latency_stats sched_debug scsi timer_list timer_stats"
MASKED = (*(f"proc/{name}" for name in MASKED_IN_PROC.split(" ")), "sys/firmware")
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
AGENT_ENVIRONMENT = {
    "LIBPROCESS_IP": "127.0.0.1",
    "LIBPROCESS_MEMORY_PROFILING": "false",
    "LIBPROCESS_PORT": "5051",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}


def read_json(archive: tarfile.TarFile, name: str) -> Any:
    """Return what a JSON file in an image's archive says."""
    file = archive.extractfile(name)
    assert file, name
    return json.load(file)


def image_environment(of: Launched) -> dict[str, str]:
    if not of.container.image:
        return {}
    with tarfile.open(of.container.image) as archive:
        image = read_json(archive, "manifest.json")[0]
        config = read_json(archive, image["Config"])
    environment = dict(entry.split("=", 1) for entry in config["config"]["Env"])
    if of.container.volume and environment.get("NVIDIA_VISIBLE_DEVICES", "void") != "void":
        environment["PATH"] += ":/usr/local/nvidia/bin"
        environment["LD_LIBRARY_PATH"] = "/usr/local/cuda/compat:/usr/local/nvidia/lib:/usr/local/nvidia/lib64"
    return environment


def mounts(of: Launched) -> list[dict]:
    root = of.rootfs
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
    devices = [(f"{of.runtime}/devices/{name}", name) for name in sorted(NODES)]
    if of.container.granted is not None:
        devices += [(copied_node(of, path), os.path.basename(path)) for path in of.agent.nodes]
    mounts += [{"flags": 4096, "source": path, "target": f"{root}/dev/{name}"} for path, name in devices]
    mounts.append({"flags": 20480, "source": str(of.sandbox), "target": f"{root}{SANDBOX}"})
    if of.container.volume:
        target = f"{root}/usr/local/nvidia"
        mounts.append({"flags": 20481, "source": of.container.volume, "target": target})
    return mounts


def copied_node(of: Launched, path: str) -> str:
    found = os.stat(path)
    copy = of.runtime / "devices" / os.path.basename(path)
    os.mknod(copy, 0o020666, found.st_rdev)
    copy.chmod(0o666)
    return str(copy)


def cgroup_mounts(of: Launched) -> list[dict]:
    target = f"{of.rootfs}/sys/fs/cgroup"
    pairs = (("devices", of.devices_path), ("freezer", of.path))
    return [{"flags": 20480, "source": f"{HIERARCHIES}/{n}{p}", "target": f"{target}/{n}"} for n, p in pairs]


def launch_info(of: Launched) -> dict:
    """Return what the isolators and the agent have put together."""
    container = of.container
    if container.kind == "debug":
        assert of.parent
        above = launch_info(of.parent)
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
    if of.parent and container.pid_namespace:
        info["enter_namespaces"] = [linux.CLONE_NEWPID]
    image = image_environment(of)
    own = {"MESOS_SANDBOX": SANDBOX if container.image else str(of.sandbox)}
    if not of.parent:
        own |= {"LIBPROCESS_IP": "127.0.0.1", "MESOS_EXECUTOR_ID": "e", "MESOS_FRAMEWORK_ID": "F0"}
    by_executor = container.kind == "command" and container.image
    environment = own | container.environment if by_executor else own | image | container.environment
    proc = [{"flags": 14, "source": "proc", "target": "/proc", "type": "proc"}] * container.pid_namespace
    info |= {
        "command": executor(of, image) if by_executor else container.command,
        "environment": variables(environment),
        "task_environment": variables(image) if by_executor else {},
        "user": "root" if by_executor else container.user,
        "working_directory": str(of.sandbox) if by_executor or not container.image else SANDBOX,
    }
    if container.image:
        root = of.rootfs
        links = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1"}
        links |= {"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}
        info["file_operations"] = [
            {"operation": "SYMLINK", "symlink": {"source": source, "target": f"{root}/dev/{name}"}}
            for name, source in links.items()
        ]
        info["masked_paths"] = [f"{root}/{path}" for path in MASKED]
        info["mounts"] = [*mounts(of), *([] if by_executor else cgroup_mounts(of)), *proc]
    elif proc:
        info["mounts"] = proc
    info |= container.more
    if container.pre_exec and not by_executor:
        info["pre_exec_commands"] = container.pre_exec
    if container.image and not by_executor:
        info["rootfs"] = of.rootfs
        if container.capabilities is not None:
            info["bounding_capabilities"] = {"capabilities": container.capabilities}
    return info


def executor(of: Launched, image: dict[str, str]) -> dict:
    container = of.container
    info = {"clone_namespaces": [linux.CLONE_NEWNS], "mounts": cgroup_mounts(of)}
    if container.pre_exec:
        info["pre_exec_commands"] = container.pre_exec
    arguments = {
        "launcher_dir": of.agent.launcher,
        "sandbox_directory": SANDBOX,
        "user": container.user,
        "task_command": json.dumps(container.command | {"environment": variables(container.environment)}),
        "task_launch_info": json.dumps(info),
        "task_environment": json.dumps(variables(image)),
        "rootfs": of.rootfs,
        "checkpoints": str(of.agent.checkpoints),
        "container": container.id,
    }
    if container.capabilities is not None:
        arguments["bounding_capabilities"] = json.dumps({"capabilities": container.capabilities})
    if of.agent.seal:
        arguments["sealed"] = "1"
    value = os.path.realpath(os.path.join(of.agent.launcher, "mesos-executor"))
    return {
        "shell": False,
        "value": value,
        "arguments": ["mesos-executor", *(f"--{name}={text}" for name, text in arguments.items())],
    }


def environment(of: Launched, read: int, write: int) -> dict[str, str]:
    """Return the environment of the helper: the agent's own, and its flags."""
    info = launch_info(of)
    if of.container.fill:
        named = len(f"MESOS_CONTAINERIZER_LAUNCH_INFO={json.dumps(info | {'fill': ''}, separators=(',', ':'))}")
        info["fill"] = "x" * (of.container.fill - named)
    flags = {
        "HELP": "false",
        "LAUNCH_INFO": json.dumps(info, separators=(",", ":")),
        "PIPE_READ": str(read),
        "PIPE_WRITE": str(write),
        "RUNTIME_DIRECTORY": str(of.runtime),
        "UNSHARE_NAMESPACE_MNT": "false",
    }
    if of.container.kind == "debug":
        assert of.parent
        flags["NAMESPACE_MNT_TARGET"] = str(mount_namespace_target(of.parent.pid))
    return AGENT_ENVIRONMENT | {f"MESOS_CONTAINERIZER_{name}": text for name, text in flags.items()}


def mount_namespace_target(pid: int) -> int:
    """Return the process of a container whose mount namespace is the task's: a command task's is its executor's child.

    Its own process, where none of its children has another mount namespace.
    """
    own = os.readlink(f"/proc/{pid}/ns/mnt")
    below = [pid]
    for each in below:
        try:
            below += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
            if os.readlink(f"/proc/{each}/ns/mnt") != own:
                return each
        except OSError:
            continue
    return pid


def variables(environment: dict[str, str]) -> dict:
    return {"variables": [{"name": name, "type": "VALUE", "value": value} for name, value in environment.items()]}
