"""Stands in for `mesos-containerizer` where no Mesos is: the steps of `launch`, in the order of Mesos 1.11.

Written from what a real one was seen to do (tests/data/mesos/launches.json), not from its code. Other commands only say
what they were called with, and exit with status 17.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import sys
import warnings  # noqa: F401  execvpe wants it, and after pivot_root there is no standard library
from typing import NoReturn

sys.path.append(os.path.dirname(os.path.realpath(__file__)))  # a launcher directory, see conftest.py
from tests.mesos import linux

PREFIX = "MESOS_CONTAINERIZER_"
KNOWN = {
    "help",
    "launch_info",
    "pipe_read",
    "pipe_write",
    "runtime_directory",
    "namespace_mnt_target",
    "unshare_namespace_mnt",
}


def main() -> None:
    if sys.argv[1:2] != ["launch"]:
        print(json.dumps({"argv": sys.argv, "env": dict(os.environ)}))
        sys.exit(17)
    sys.exit(launch(read_flags()))


def fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(1)


def read_flags() -> dict[str, str]:
    """Flags of the environment, then of the arguments, which win; unknown ones fail."""
    flags = {n[len(PREFIX) :].lower(): v for n, v in os.environ.items() if n.startswith(PREFIX)}
    for argument in sys.argv[2:]:
        name, _, value = argument.removeprefix("--").partition("=")
        flags[name] = value
    for name in flags:
        if name not in KNOWN:
            fail(f"Failed to load unknown flag '{name}'")
    return flags


def launch(flags: dict[str, str]) -> int:
    status = None
    if "runtime_directory" in flags:
        status = os.open(os.path.join(flags["runtime_directory"], "status"), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC)
    try:
        info = json.loads(flags["launch_info"])
        command = info["command"]
    except (KeyError, ValueError) as error:
        fail(f"Failed to parse launch_info: {error!r}")
    if "pipe_read" in flags:
        os.close(int(flags["pipe_write"]))
        if len(os.read(int(flags["pipe_read"]), 1)) != 1:
            fail("Failed to synchronize with the agent")
        os.close(int(flags["pipe_read"]))
    if flags.get("unshare_namespace_mnt") == "true":
        linux.unshare(linux.CLONE_NEWNS)
    rootfs = info.get("rootfs", "")
    if rootfs and os.path.realpath(rootfs) != rootfs:
        fail("Rootfs must be an absolute, real path")
    prepare_mounts(info)
    for path in info.get("masked_paths", []):
        mask(path)
    for operation in info.get("file_operations", []):
        operate(operation)
    for each in info.get("pre_exec_commands", []):
        run_before(each)
    user = pwd.getpwnam(info["user"]) if info.get("user") else None
    groups = os.getgrouplist(user.pw_name, user.pw_gid) if user and user.pw_uid else [0]
    groups += info.get("supplementary_groups", []) if user and user.pw_uid else []
    if flags.get("namespace_mnt_target"):
        linux.enter(f"/proc/{flags['namespace_mnt_target']}/ns/mnt", linux.CLONE_NEWNS)
    if rootfs:
        enter_root(rootfs)
    if info.get("working_directory"):
        os.chdir(info["working_directory"])
    if "bounding_capabilities" in info:
        linux.drop_from_bounding_set(info["bounding_capabilities"]["capabilities"])
    if user:
        os.setgroups(groups)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    return run(command, info, status)


def prepare_mounts(info: dict) -> None:
    if not info.get("mounts"):
        return
    if linux.CLONE_NEWNS not in info.get("clone_namespaces", []):
        fail("Mounts need a mount namespace of the container's own")
    linux.mount("", "/", "", linux.MS_SLAVE | linux.MS_REC)
    for each in info["mounts"]:
        mount(each)


def mount(each: dict) -> None:
    flags = each.get("flags", 0)
    if flags & linux.MS_SHARED:
        return
    source, target = each.get("source", ""), each["target"]
    if not os.path.exists(target):
        if flags & linux.MS_BIND and not os.path.isdir(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT))
        else:
            os.makedirs(target)
    linux.mount(source, target, each.get("type", ""), flags, each.get("options", ""))
    if flags & linux.MS_BIND and flags & linux.MS_RDONLY:
        linux.mount("", target, "", flags | linux.MS_REMOUNT)


def mask(path: str) -> None:
    if os.path.isdir(path):
        linux.mount("none", path, "tmpfs", linux.MS_RDONLY, "size=0")
    elif os.path.exists(path):
        linux.mount("/dev/null", path, "", linux.MS_BIND)
        linux.mount("", path, "", linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY)


def operate(operation: dict) -> None:
    kind = operation["operation"]
    if kind == "SYMLINK":
        os.symlink(operation["symlink"]["source"], operation["symlink"]["target"])
    elif kind == "MOUNT":
        mount(operation["mount"])
    elif kind == "RENAME":
        os.rename(operation["rename"]["source"], operation["rename"]["target"])
    elif kind == "MKDIR":
        os.makedirs(operation["mkdir"]["target"])


def run_before(command: dict) -> None:
    """Run a pre-exec command in this process's environment. `shell` is true where nothing is said."""
    print(f"Executing pre-exec command '{json.dumps(command)}'", file=sys.stderr, flush=True)
    pid = os.fork()
    if pid == 0:
        exec_command(command, dict(os.environ))
    if os.waitpid(pid, 0)[1] != 0:
        fail(f"Failed to execute pre-exec command '{json.dumps(command)}'")


def exec_command(command: dict, environment: dict[str, str]) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # CPython ignores them, the real helper does not
        signal.signal(number, signal.SIG_DFL)
    try:
        if command.get("shell", True):
            os.execvpe("sh", ["sh", "-c", command["value"]], environment)
        os.execvpe(command["value"], command.get("arguments", []), environment)
    except OSError as error:
        print(f"Failed to execute command: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def enter_root(rootfs: str) -> None:
    linux.mount("tmpfs", f"{rootfs}/tmp", "tmpfs", 0, "mode=1777")
    old = f"{rootfs}/tmp/._old_root_"
    os.mkdir(old)
    linux.pivot_root(rootfs, old)
    os.chdir("/")
    linux.umount("/tmp/._old_root_")
    linux.umount("/tmp")


def run(command: dict, info: dict, status: int | None) -> int:
    """Start the container's command, stay as its parent, and write how it ended."""
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    environment |= {v["name"]: v["value"] for v in info.get("environment", {}).get("variables", [])}
    pid = os.fork()
    if pid == 0:
        exec_command(command, environment)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: os.kill(pid, number))
    while True:
        ended, how = os.wait()
        if ended == pid:
            break
    if status is not None:
        os.write(status, str(how).encode())
    return os.waitstatus_to_exitcode(how) % 256


if __name__ == "__main__":
    main()
