"""Pods as a kubelet makes them: a sandbox, and containers in it, with the kubelet's labels and annotations."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from tests.cri.client import Client, CriError

HANDLER = "oci-gpu"
NODE, CONTAINER = 2, 1  # runtime.v1.NamespaceMode
RUNNING, EXITED = 1, 2  # runtime.v1.ContainerState


class Ended(NamedTuple):
    """How a container or a command in it ended, and what it said."""

    status: int
    stdout: str
    stderr: str


class Engine(NamedTuple):
    """An engine behind its socket: the image of all containers, the cgroup and the log directory of all pods."""

    cri: Client
    image: str
    cgroup: str
    logs: Path


class Pod:
    """A pod with the node's network, which needs no plugin for networks. `handler` is its RuntimeClass's."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        annotations: dict[str, str] | None = None,
        *,
        handler: str = HANDLER,
        namespace: str = "default",
        namespaces: dict[str, Any] | None = None,
    ) -> None:
        self.engine = engine
        self.uid = str(uuid.uuid4())
        self._names = {"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": namespace}
        self._attempts: dict[str, int] = {}
        self._namespaces = {"network": NODE, "pid": CONTAINER, **(namespaces or {})}
        self.config: dict[str, Any] = {
            "metadata": {"name": name, "uid": self.uid, "namespace": namespace},
            "log_directory": str(engine.logs / f"{namespace}_{name}_{self.uid}"),
            "labels": {**self._names, "io.kubernetes.pod.uid": self.uid},
            "annotations": {"kubernetes.io/config.source": "api", **(annotations or {})},
            "linux": {
                "cgroup_parent": engine.cgroup.replace("POD", self.uid),
                "security_context": {"namespace_options": self._namespaces},
            },
        }
        self.sandbox = engine.cri("RunPodSandbox", config=self.config, runtime_handler=handler).pod_sandbox_id

    def create(self, name: str, *command: str, env: dict[str, str] | None = None, **more: Any) -> str:
        """Make a container of the pod; return its id. `more` are fields of ContainerConfig, as a kubelet fills them."""
        attempt = self._attempts[name] = self._attempts.get(name, -1) + 1
        labels = {**self._names, "io.kubernetes.pod.uid": self.uid, "io.kubernetes.container.name": name}
        context = more.pop("security", {})
        config = {
            "metadata": {"name": name, "attempt": attempt},
            "image": {"image": self.engine.image},
            "command": [*command],
            "envs": [{"key": key, "value": value} for key, value in (env or {}).items()],
            "labels": labels,
            "annotations": {"io.kubernetes.container.restartCount": str(attempt), **more.pop("annotations", {})},
            "log_path": f"{name}_{attempt}.log",
            "linux": {"resources": {}, "security_context": {"namespace_options": self._namespaces, **context}},
        }
        answer = self.engine.cri(
            "CreateContainer", pod_sandbox_id=self.sandbox, config=config | more, sandbox_config=self.config
        )
        return str(answer.container_id)

    def start(self, name: str, *command: str, **options: Any) -> str:
        """Make a container that runs on, and start it; return its id."""
        container = self.create(name, *(command or ("/bin/sleep", "600")), **options)
        self.engine.cri("StartContainer", container_id=container)
        return container

    def run(self, name: str, *command: str, **options: Any) -> Ended:
        """Run a container to its end, as one of the pod's init containers is."""
        container = self.start(name, *command, **options)
        log = Path(self.config["log_directory"], f"{name}_{self._attempts[name]}.log")
        deadline = time.monotonic() + 60
        while (status := self.status(container)).state != EXITED:
            assert time.monotonic() < deadline, "the container does not end"
            time.sleep(0.05)
        self.remove(container)
        # A line: time, stream, whether it is whole, text (CRI, "container logging").
        lines = [line.split(" ", 3) for line in log.read_text().splitlines()]
        said = {
            stream: "".join(f"{line[3]}\n" for line in lines if line[1] == stream) for stream in ("stdout", "stderr")
        }
        return Ended(status.exit_code, **said)

    def exec(self, container: str, *command: str) -> Ended:
        """Run a command in a running container, as `kubectl exec` and probes do."""
        answer = self.engine.cri("ExecSync", container_id=container, cmd=[*command], timeout=60)
        return Ended(answer.exit_code, answer.stdout.decode(), answer.stderr.decode())

    def status(self, container: str) -> Any:
        """Return what the engine says of a container."""
        return self.engine.cri("ContainerStatus", container_id=container).status

    def pid(self, container: str) -> int:
        """Return the container's first process."""
        answer = self.engine.cri("ContainerStatus", container_id=container, verbose=True)
        return int(json.loads(answer.info["info"])["pid"])

    def stop(self, container: str) -> None:
        """Stop a container, at once."""
        self.engine.cri("StopContainer", container_id=container, timeout=0)

    def remove(self, container: str) -> None:
        """Remove a container that has ended."""
        self.engine.cri("RemoveContainer", container_id=container)

    def close(self) -> None:
        """Stop and remove the pod with all that is in it, again where containerd has not yet seen a container end."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self._end()
            except CriError as error:
                if "still running" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def _end(self) -> None:
        try:
            self.engine.cri("StopPodSandbox", pod_sandbox_id=self.sandbox)
        finally:
            self.engine.cri("RemovePodSandbox", pod_sandbox_id=self.sandbox)
