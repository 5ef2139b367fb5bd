"""A swarm of three nodes: a dockerd each, with a mount namespace, a network and a host name of its own.

Each has eight simulated GPUs that no other has. The nodes' networks are joined by a bridge in that of the first.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from tests.engines.machine import EngineMachine
from tests.runtime.fixtures import oci_gpu
from tests.runtime.host import Host
from tests.runtime.simulated import SimulatedHost

NODES = 3
GPUS = 8
IMAGE = "test/image:latest"
PATIENCE = 120  # seconds


class Node:
    """One node; `oci-gpu install docker --swarm` has made its daemon.json."""

    def __init__(self, work: Path, image: Path, number: int) -> None:
        self.number = number
        self.name = f"swarm-{number}-{os.getpid()}"
        self.address = f"10.88.0.{number + 1}"
        work.mkdir(mode=0o755)
        oci_gpu("simulate", work / "host", "--gpus", GPUS, "--seed", number)
        self.simulated = SimulatedHost(work / "host")
        host = Host(work, "v1-only", ("net", "uts"))
        (work / "docker").mkdir()
        self.machine = EngineMachine(work / "docker", image, self.simulated, host)
        self.machine.host.call("hostname", self.name)
        self.machine.host.call("ip", "link", "set", "lo", "up")
        self.socket = f"unix://{work}/socket"
        self.machine.write("/etc/docker/daemon.json", '{\n  "debug": false\n}\n')
        self.machine.oci_gpu("install", "docker", "--swarm", "--directory", self.machine.libexec)

    @property
    def pid(self) -> int:
        """A process in the node's namespaces."""
        return self.machine.host._holder.pid

    def start(self) -> None:
        """Start dockerd with a containerd of its own, and give it the image."""
        where = self.machine.work
        self.daemon = self.machine.start(
            *("dockerd", "--data-root", where / "data", "--exec-root", where / "exec", "-H", self.socket),
            *("--iptables=false", "--bridge=none", "--pidfile", where / "pid", "--cgroup-parent", self.machine.cgroup),
            until=("docker", "-H", self.socket, "info"),
        )
        if not self("images", "-q", IMAGE):
            with subprocess.Popen(["tar", "-C", self.machine.image, "-c", "."], stdout=subprocess.PIPE) as tar:
                self("import", "-", IMAGE, stdin=tar.stdout)

    def __call__(self, *arguments: object, **options) -> str:
        return self.machine.run("docker", "-H", self.socket, *arguments, **options).stdout.strip()

    def containers(self) -> list[str]:
        """Return the containers that run on the node."""
        return self("ps", "-q", "--no-trunc").split()

    def held(self) -> dict[str, list[str]]:
        """Return the GPUs by container, as the node's leases have them."""
        return {lease["container"]: lease["gpus"] for lease in self.machine.leases()}


class Swarm:
    """The nodes, of which the first is the manager."""

    def __init__(self, work: Path, image: Path) -> None:
        self.nodes = [Node(work / f"node{number}", image, number) for number in range(NODES)]
        self._join_networks()
        for node in self.nodes:
            node.start()
        self.manager = self.nodes[0]
        self.manager("swarm", "init", "--advertise-addr", self.manager.address)
        token = self.manager("swarm", "join-token", "-q", "worker")
        for node in self.nodes[1:]:
            node("swarm", "join", "--advertise-addr", node.address, "--token", token, f"{self.manager.address}:2377")
        ready = [("Ready", "Active")] * NODES
        self.until(lambda: self._states() == ready, "nodes do not come")

    def create(self, name: str, *options: object, command: tuple[object, ...] = ("/bin/sleep", "100000")) -> None:
        """Make a service of the image; `options` say how many replicas and which resources."""
        self.manager(
            *("service", "create", "--quiet", "--detach", "--no-resolve-image", "--restart-max-attempts", "3"),
            *("--stop-grace-period", "1s", "--name", name, *options, IMAGE, *command),
        )

    def tasks(self, service: str, *filters: str) -> list[dict]:
        """Return the tasks of a service, as `docker inspect` has them."""
        chosen = [word for each in filters for word in ("--filter", each)]
        found = self.manager("service", "ps", "-q", "--no-trunc", *chosen, service).split()
        return json.loads(self.manager("inspect", *found)) if found else []

    def running(self, service: str) -> list[dict]:
        return [task for task in self.tasks(service) if task["Status"]["State"] == "running"]

    def await_running(self, service: str, count: int) -> list[dict]:
        """Wait until so many replicas run, and return their tasks."""
        self.until(lambda: len(self.running(service)) == count, f"{service} does not have {count} replicas")
        return self.running(service)

    def remove_services(self) -> None:
        """Remove every service, and wait until its containers are gone."""
        services = self.manager("service", "ls", "-q").split()
        if services:
            self.manager("service", "rm", *services)
        self.until(lambda: not any(node.containers() for node in self.nodes), "containers stay")

    def node_of(self, task: dict) -> Node:
        """Return the node that runs a task."""
        if not hasattr(self, "_ids"):
            self._ids = {node("info", "--format", "{{.Swarm.NodeID}}"): node for node in self.nodes}
        return self._ids[task["NodeID"]]

    def until(self, done, what: str, patience: float = PATIENCE) -> None:
        """Wait until something is so."""
        give_up = time.monotonic() + patience
        while not done():
            assert time.monotonic() < give_up, f"{what}\n{self.describe()}"
            time.sleep(0.2)

    def describe(self) -> str:
        """Say what the swarm is doing."""
        services = self.manager("service", "ls", "-q").split()
        said = [self.manager("service", "ps", "--no-trunc", service) for service in services]
        return "\n".join((self.manager("node", "ls"), *said))[-4000:]

    def close(self) -> None:
        for node in reversed(self.nodes):
            node.machine.close()

    def _states(self) -> list[tuple[str, ...]]:
        said = self.manager("node", "ls", "--format", "{{.Status}} {{.Availability}}")
        return [tuple(line.split()) for line in said.splitlines()]

    def _join_networks(self) -> None:
        first = self.nodes[0].machine.host
        first.call("ip", "link", "add", "join", "type", "bridge")
        first.call("ip", "link", "set", "join", "up")
        first.call("ip", "address", "add", f"{self.nodes[0].address}/24", "dev", "join")
        for node in self.nodes[1:]:
            name = f"to{node.number}"
            first.call("ip", "link", "add", name, "type", "veth", "peer", "name", "join", "netns", node.pid)
            first.call("ip", "link", "set", name, "master", "join", "up")
            node.machine.host.call("ip", "address", "add", f"{node.address}/24", "dev", "join")
            node.machine.host.call("ip", "link", "set", "join", "up")
