"""Stands in for a Mesos agent with the isolators filesystem/linux, docker/runtime, cgroups/devices (and gpu/nvidia).

`agent.py SPEC` provisions, isolates, launches, waits for and destroys one container and those nested in it: one process
an executor. With `recover` it is the agent that comes up again in a directory where others were killed: it takes over
what lives and is known, destroys the rest, and says which in its first line. Either prints one line of JSON a container
that has ended. SIGTERM kills what runs. SPEC is a JSON file; the defaults of a container are in `Container`.
Facts: tests/data/mesos/launches.json, to which test_stand_in.py holds it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(os.path.realpath(f"{os.path.realpath(__file__)}/../../.."))
from tests.mesos.container import Container
from tests.mesos.launched import Agent, Launched

REREGISTRATION = 60  # seconds, --executor_reregistration_timeout; a busy machine takes more than the default of 2


def recover(agent: Agent, sessions: dict[str, str]) -> None:
    """Take over the containers that an agent before this one has launched, and see them to their ends.

    sessions: what is run in a debug container (LAUNCH_NESTED_CONTAINER_SESSION) of those with these ids.
    """
    known = [json.loads(path.read_text()) for path in sorted(agent.checkpoints.glob("*/info.json"))]
    found = [Launched(agent, Container(**each), None) for each in known]
    (agent.work / "agent.pid").write_text(str(os.getpid()))
    living = [each for each in found if each.is_known_and_lives()]
    registered = [each for each in living if has_reregistered(agent, each)]
    orphans = [each for each in found if each not in registered]
    for each in orphans:
        each.destroy_all()
    for each in registered:
        each.adopt()
    said = {"recovered": [each.container.id for each in registered], "destroyed": [e.container.id for e in orphans]}
    print(json.dumps(said), flush=True)
    for each in registered:
        if command := sessions.get(each.container.id):
            Launched(agent, Container(kind="debug", command={"shell": True, "value": command}), each).run()
    for each in registered:
        each.see_to_its_end()


def has_reregistered(agent: Agent, launched: Launched) -> bool:
    """Tell whether a container's executor has heard of the new agent; those of no stand-in's are believed."""
    if launched.container.kind != "command" or not launched.container.image:
        return True
    path = agent.checkpoints / launched.container.id / "updates"
    deadline = time.monotonic() + REREGISTRATION
    while time.monotonic() < deadline:
        if path.exists() and f"reregistered {os.getpid()}\n" in path.read_text():
            return True
        time.sleep(0.02)
    return False


def main() -> None:
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    agent = Agent(spec["directory"], spec["launcher"], seal=spec["seal"], nodes=spec["nodes"], dies=spec["dies"])

    signal.signal(signal.SIGTERM, lambda _number, _frame: agent.kill())
    agent.checkpoints.mkdir(parents=True, exist_ok=True)
    if spec["recover"]:
        recover(agent, spec["sessions"])
    else:
        Launched(agent, Container(**spec["container"]), None).run()


if __name__ == "__main__":
    main()
