"""Stands in for `mesos-executor` of a command task: starts the task by a second launch, with the flags as arguments."""

from __future__ import annotations

import fcntl
import json
import os
import sys

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK


def main() -> int:
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    info = json.loads(flags["task_launch_info"])
    command = json.loads(flags["task_command"])
    environment = dict(os.environ)
    for given in (json.loads(flags["task_environment"]), command.get("environment", {})):
        environment |= {variable["name"]: variable["value"] for variable in given.get("variables", [])}
    info |= {
        "command": command,
        "environment": {"variables": [{"name": n, "type": "VALUE", "value": v} for n, v in environment.items()]},
        "rootfs": flags["rootfs"],
        "working_directory": flags["sandbox_directory"],
        "user": flags["user"],
    }
    if "bounding_capabilities" in flags:
        info["bounding_capabilities"] = json.loads(flags["bounding_capabilities"])
    helper = os.path.join(flags["launcher_dir"], "mesos-containerizer")
    argv = ["mesos-containerizer", "launch", "--help=false", f"--launch_info={json.dumps(info)}"]
    pid = os.fork()
    if pid == 0:
        os.execv(sealed(helper) if flags.get("sealed") else helper, [*argv, "--unshare_namespace_mnt=true"])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256


def sealed(path: str) -> str:
    """Return the path of a copy of a program in a sealed memory file, as --enable-launcher-sealing starts it."""
    fd = os.memfd_create("mesos-containerizer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(path, "rb") as file:
        os.write(fd, file.read())
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return f"/proc/self/fd/{fd}"


if __name__ == "__main__":
    sys.exit(main())
