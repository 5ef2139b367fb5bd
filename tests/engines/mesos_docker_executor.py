"""Stands in for `mesos-docker-executor`: one container by the docker client, from `docker run` to its end.

As in Mesos 1.11: started by the agent with flags for arguments, the agent's and the task's variables for environment,
in the sandbox and in a session of its own. The task, which a real one hears of from its agent, is the flag `task`.
What it would tell its agent goes to the file `updates` in the sandbox. SIGTERM: its framework wants the task killed.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

INSPECT_DELAY = 0.5  # seconds, DOCKER_INSPECT_DELAY


def main() -> int:
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    task = json.loads(flags["task"])
    docker = [flags["docker"], "-H", f"unix://{flags['docker_socket']}"]
    with open("stdout", "ab") as stdout, open("stderr", "ab") as stderr:
        run = subprocess.Popen([*docker, *arguments(flags, task)], stdout=stdout, stderr=stderr)
    tell("TASK_STARTING")
    killed: list[int] = []

    def kill(number: int, _frame: object) -> None:
        killed.append(number)
        subprocess.Popen([*docker, "stop", "-t", flags["stop_timeout"].removesuffix("secs"), flags["container"]])

    signal.signal(signal.SIGTERM, kill)
    is_running = False
    while run.poll() is None:
        if not is_running and inspected(docker, flags["container"]):
            is_running = True
            tell("TASK_RUNNING")
        time.sleep(0.1 if is_running else INSPECT_DELAY)
    state = "TASK_KILLED" if killed else "TASK_FAILED" if run.returncode else "TASK_FINISHED"
    tell(f"{state} Container exited with status {run.returncode}")
    return 0


def arguments(flags: dict[str, str], task: dict) -> list[str]:
    """Return those of `docker run`: resources, environment, volumes, network, entry point, name, parameters, image."""
    environment = {**task["environment"], **json.loads(flags["task_environment"])}
    environment |= {"MESOS_SANDBOX": flags["mapped_directory"], "MESOS_CONTAINER_NAME": flags["container"]}
    made = ["run", "--cpu-shares", "1024", "--memory", "33554432"]
    made += [text for name, value in environment.items() for text in ("-e", f"{name}={value}")]
    made += ["-v", f"{flags['sandbox_directory']}:{flags['mapped_directory']}", "--net", "none"]
    made += ["--entrypoint", "/bin/sh", "--name", flags["container"]]
    made += [f"--{each['key']}={each['value']}" for each in task["parameters"]]
    return [*made, task["image"], "-c", task["command"]]


def inspected(docker: list[str], name: str) -> bool:
    """Tell whether the container has a process."""
    done = subprocess.run([*docker, "inspect", name], capture_output=True, check=False)
    return done.returncode == 0 and bool(json.loads(done.stdout)[0]["State"]["Pid"])


def tell(update: str) -> None:
    with open("updates", "a") as file:
        file.write(f"{update}\n")


if __name__ == "__main__":
    sys.exit(main())
