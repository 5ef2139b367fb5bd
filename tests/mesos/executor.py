"""Stands in for `mesos-executor` of a command task: starts the task by a second launch, with the flags as arguments.

What it would tell its agent goes to the file `updates`: states of the task, and that it has registered with the agent
that came up after another. It outlives its agent. SIGTERM is the wish of its framework that the task be killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time

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
    agent = Agent(flags["checkpoints"], flags["container"])
    agent.tell("TASK_STARTING")
    pid = os.fork()
    if pid == 0:
        os.execv(sealed(helper) if flags.get("sealed") else helper, [*argv, "--unshare_namespace_mnt=true"])
    agent.tell("TASK_RUNNING")
    wished: list[int] = []

    def kill(number: int, _frame: object) -> None:
        wished.append(number)
        os.kill(pid, number)

    signal.signal(signal.SIGTERM, kill)
    how = agent.wait(pid)
    status = os.waitstatus_to_exitcode(how)
    state = "TASK_KILLED" if wished else "TASK_FAILED" if status else "TASK_FINISHED"
    agent.tell(f"{state} Command {'exited with status' if status >= 0 else 'terminated with signal'} {abs(status)}")
    return status % 256


class Agent:
    """The agent as its executor knows it."""

    def __init__(self, checkpoints: str, container: str) -> None:
        self.current = os.path.join(os.path.dirname(checkpoints), "agent.pid")
        self.registered = self.now()
        self.updates = os.open(
            os.path.join(checkpoints, container, "updates"),
            os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC,
            0o644,
        )

    def now(self) -> str:
        try:
            with open(self.current) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def tell(self, update: str) -> None:
        os.write(self.updates, f"{update}\n".encode())

    def wait(self, pid: int) -> int:
        """Wait for a process, and register again with each agent that comes up."""
        while True:
            ended, how = os.waitpid(pid, os.WNOHANG)
            if ended:
                return how
            if (now := self.now()) != self.registered:
                self.registered = now
                self.tell(f"reregistered {now}")
            time.sleep(0.02)


def sealed(path: str) -> str:
    """Return the path of a copy of a program in a sealed memory file, as --enable-launcher-sealing starts it."""
    fd = os.memfd_create("mesos-containerizer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(path, "rb") as file:
        os.write(fd, file.read())
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return f"/proc/self/fd/{fd}"


if __name__ == "__main__":
    sys.exit(main())
