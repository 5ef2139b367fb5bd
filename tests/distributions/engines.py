"""How each engine starts a container of a cell, and does to it what engines do; run by the guest (guest.py).

An engine is made with the guest: its working directory, the directory of the hook's executables, and what makes a
command one of the user's.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cri.client import Client, CriError
from tests.cri.pods import Engine as Node
from tests.cri.pods import Pod
from tests.distributions.cells import ATTACHED, COUNT, DEVICE, Cell

if TYPE_CHECKING:
    from tests.distributions.guest import Guest

IMAGE = "localhost/image:latest"
VARIABLE = "NVIDIA_VISIBLE_DEVICES=0"
WATCH = ("/watch", "/log/log")
_LATER = ("/bin/sh", "-c", "until [ -e /dev/nvidia0 ]; do /bin/sleep 0.1; done; exec /watch /log/log")
USER = 1000
_DOCKER = {
    "--runtime oci-gpu, variable": ("--runtime=oci-gpu", f"--env={VARIABLE}"),
    "--runtime oci-gpu, count": ("--runtime=oci-gpu", "--env=OCI_GPU_COUNT=1"),
    "--runtime oci-gpu, annotation": ("--runtime=oci-gpu", f"--annotation={COUNT}"),
    "--gpus": ("--gpus=device=0",),
    DEVICE: (DEVICE.replace(" ", "="),),
    ATTACHED: (),
}
_OTHERS = {
    "variable": ("--env", VARIABLE),
    "annotation": ("--annotation", COUNT),
    DEVICE: (DEVICE.replace(" ", "="),),
    ATTACHED: (),
}


def watch(cell: Cell) -> tuple[str, ...]:
    """Return the command of a container; the watcher ends where there is no GPU."""
    return _LATER if cell.way == ATTACHED else WATCH


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a command to its end and return what it said; into a file, since containers keep what they inherit."""
    out = Path("/tmp/output")
    with out.open("w") as file:
        done = subprocess.run(
            [*map(str, command)],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            timeout=120,
            cwd=cwd,
        )
    said = out.read_text()
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command[:8]))}: {said[-600:]}")
    return said


class Engine:
    """Starts containers of some cells, and does to one of them what engines do."""

    def __init__(self, guest: Guest, *, rootless: bool = False) -> None:
        self.guest = guest
        self.prefix = guest.as_user if rootless else ()
        self.user = ("--user",) if rootless else ()

    def start(self, cell: Cell, log: str) -> None:
        raise NotImplementedError

    def pid(self, cell: Cell) -> int:
        raise NotImplementedError

    def update(self, cell: Cell) -> None:
        raise NotImplementedError

    def pause(self, cell: Cell) -> None:
        raise NotImplementedError

    def remove(self, cell: Cell) -> None:
        raise NotImplementedError

    def set_property(self, cell: Cell) -> None:
        """Change a property of the unit that the container is in, as `systemctl` does for administrators."""
        path = Path(f"/proc/{self.pid(cell)}/cgroup").read_text().split(":")[-1].strip()
        if self.user:
            path = path.partition("/user@1000.service")[2]
        unit = next(part for part in path.split("/") if part.endswith((".scope", ".service")))
        run(*self.prefix, "systemctl", *self.user, "set-property", "--runtime", unit, "CPUWeight=77")


class Docker(Engine):
    """A dockerd, of root or of a user, by the socket on which it listens."""

    def __init__(self, guest: Guest, socket: str, *, rootless: bool = False) -> None:
        super().__init__(guest, rootless=rootless)
        self.docker = (*self.prefix, "docker", "-H", f"unix://{socket}")

    def start(self, cell: Cell, log: str) -> None:
        if cell.way == "compose":
            self._compose(cell, log)
            return
        kind = ("--read-only",) if cell.kind == "read-only" else ()
        options = ("--detach", "--net=none", f"--name={cell.name}", f"--volume={log}:/log")
        run(*self.docker, "run", *options, *kind, *_DOCKER[cell.way], IMAGE, *watch(cell))

    def _compose(self, cell: Cell, log: str) -> None:
        device = {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}
        service = {
            "image": IMAGE,
            "container_name": cell.name,
            "command": [*WATCH],
            "network_mode": "none",
            "volumes": [f"{log}:/log"],
            "read_only": cell.kind == "read-only",
            "deploy": {"resources": {"reservations": {"devices": [device]}}},
        }
        directory = self.guest.work / cell.name
        directory.mkdir()
        (directory / "compose.yaml").write_text(json.dumps({"version": "3.8", "services": {"watch": service}}))
        (directory / "docker-compose.yml").symlink_to("compose.yaml")
        run("docker-compose", "up", "--detach", cwd=directory)

    def pid(self, cell: Cell) -> int:
        return int(run(*self.docker, "inspect", "--format={{.State.Pid}}", cell.name))

    def update(self, cell: Cell) -> None:
        run(*self.docker, "update", "--cpu-shares=512", cell.name)

    def pause(self, cell: Cell) -> None:
        run(*self.docker, "pause", cell.name)
        run(*self.docker, "unpause", cell.name)

    def remove(self, cell: Cell) -> None:
        run(*self.docker, "rm", "--force", cell.name)


class Podman(Engine):
    """Podman of root or of a user, with one of the runtimes."""

    def __init__(self, guest: Guest, runtime: str, *, rootless: bool = False) -> None:
        super().__init__(guest, rootless=rootless)
        self.runtime = runtime
        self.rootless = rootless
        self.podman = (*self.prefix, "podman", f"--runtime={runtime}")

    def _name(self, cell: Cell) -> str:
        return f"pod-{cell.name}-watch" if cell.way == "kube play" else cell.name

    def start(self, cell: Cell, log: str) -> None:
        if cell.way == "kube play":
            self._kube(cell, log)
        elif cell.way == "quadlet":
            self._quadlet(cell, log)
        else:
            kind = {"read-only": ("--read-only",), "userns": ("--uidmap=0:200000:65536", "--gidmap=0:200000:65536")}
            options = ("--detach", "--net=none", "--pids-limit=0", f"--name={cell.name}", f"--volume={log}:/log")
            rights = () if self.rootless else ("--cap-add=MKNOD",)
            run(
                *(*self.podman, "run", *options, *rights, *kind.get(cell.kind, ()), *_OTHERS[cell.way]),
                *(IMAGE, *watch(cell)),
            )

    def _kube(self, cell: Cell, log: str) -> None:
        context = {"readOnlyRootFilesystem": cell.kind == "read-only", "capabilities": {"add": ["MKNOD"]}}
        container = {
            "name": "watch",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": [*WATCH],
            "env": [{"name": name, "value": value} for name, value in (VARIABLE.split("="),)],
            "securityContext": context if not self.rootless else {},
            "volumeMounts": [{"name": "log", "mountPath": "/log"}],
        }
        volume = {"name": "log", "hostPath": {"path": log, "type": "Directory"}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"pod-{cell.name}"},
            "spec": {"containers": [container], "volumes": [volume]},
        }
        file = self.guest.work / f"{cell.name}.yaml"
        file.write_text(json.dumps(pod))
        run(*self.podman, "kube", "play", "--network=none", file)

    def _quadlet(self, cell: Cell, log: str) -> None:
        directory = Path("/home/gpu/.config" if self.rootless else "/etc", "containers/systemd")
        directory.mkdir(parents=True, exist_ok=True)
        lines = ["[Container]", f"Image={IMAGE}", f"ContainerName={cell.name}", f"Exec={' '.join(WATCH)}"]
        lines += [f"Environment={VARIABLE}", "Network=none", f"Volume={log}:/log", "PodmanArgs=--pids-limit=0"]
        lines += [f"GlobalArgs=--runtime={self.runtime}", "Pull=never"]
        lines += ["ReadOnly=true"] if cell.kind == "read-only" else []
        lines += [] if self.rootless else ["AddCapability=MKNOD"]
        (directory / f"{cell.name}.container").write_text("\n".join([*lines, ""]))
        run(*self.prefix, "systemctl", *self.user, "daemon-reload")
        run(*self.prefix, "systemctl", *self.user, "start", f"{cell.name}.service")

    def pid(self, cell: Cell) -> int:
        return int(run(*self.podman, "inspect", "--format={{.State.Pid}}", self._name(cell)))

    def update(self, cell: Cell) -> None:
        run(*self.podman, "update", "--cpu-shares=512", self._name(cell))

    def pause(self, cell: Cell) -> None:
        run(*self.podman, "pause", self._name(cell))
        run(*self.podman, "unpause", self._name(cell))

    def remove(self, cell: Cell) -> None:
        if cell.way == "kube play":
            run(*self.podman, "kube", "down", self.guest.work / f"{cell.name}.yaml")
        elif cell.way == "quadlet":
            run(*self.prefix, "systemctl", *self.user, "stop", f"{cell.name}.service")
        else:
            run(*self.podman, "rm", "--force", "--time=0", cell.name)


class Containerd(Engine):
    """containerd by ctr, which is given oci-gpu-runtime; limits are set as the CRI has them set."""

    def start(self, cell: Cell, log: str) -> None:
        kind = ("--read-only",) if cell.kind == "read-only" else ()
        if "--cpu-shares" in run("ctr", "run", "--help"):
            kind = (*kind, "--cpu-shares=0")  # a weight is refused on a machine whose cgroup v2 has no controllers
        runtime = ("--runc-binary", f"{self.guest.libexec}/oci-gpu-runtime", "--runc-systemd-cgroup")
        place = (
            "--cgroup",
            f"system.slice:ctr:{cell.name}",
            "--mount",
            f"type=bind,src={log},dst=/log,options=rbind:rw",
        )
        run(
            *("ctr", "run", "--detach", "--snapshotter=native", *runtime, *place, *kind, *_OTHERS[cell.way]),
            *(IMAGE, cell.name, *WATCH),
        )

    def pid(self, cell: Cell) -> int:
        lines = [line.split() for line in run("ctr", "task", "ls").splitlines()]
        return next(int(line[1]) for line in lines if line[0] == cell.name)

    def update(self, cell: Cell) -> None:
        run(
            "runc", "--root", "/run/containerd/runc/default", "--systemd-cgroup", "update", "--cpu-share=512", cell.name
        )

    def pause(self, cell: Cell) -> None:
        run("ctr", "task", "pause", cell.name)
        run("ctr", "task", "resume", cell.name)

    def remove(self, cell: Cell) -> None:
        run("ctr", "task", "kill", "--signal=SIGKILL", cell.name)
        for _ in range(50):
            try:
                run("ctr", "task", "rm", cell.name)
                break
            except RuntimeError:
                time.sleep(0.1)
        run("ctr", "container", "rm", cell.name)


class Kubernetes(Engine):
    """containerd by its CRI, as a kubelet with systemd's cgroup driver; each container in a pod of its own."""

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        self.cri = Client("/run/containerd/containerd.sock")
        self.node = Node(self.cri, IMAGE, "kubepods.slice", guest.work / "pods")
        self.pods: dict[str, tuple[Pod, str]] = {}

    def start(self, cell: Cell, log: str) -> None:
        annotations = dict([COUNT.split("=")]) if cell.way == "annotation" else {}
        pod = Pod(self.node, cell.name.lower(), annotations)
        options: dict = {"mounts": [{"container_path": "/log", "host_path": log}]}
        if cell.way == "variable":
            options["env"] = dict([VARIABLE.split("=")])
        elif cell.way == "cdi_devices":
            options["CDI_devices"] = [{"name": DEVICE.split()[1]}]
        try:
            options["security"] = {"readonly_rootfs": cell.kind == "read-only"}
            self.pods[cell.name] = pod, pod.start("watch", *WATCH, **options)
        except CriError as error:
            pod.close()
            raise RuntimeError(str(error)) from None

    def pid(self, cell: Cell) -> int:
        pod, container = self.pods[cell.name]
        return pod.pid(container)

    def update(self, cell: Cell) -> None:
        try:
            self.cri("UpdateContainerResources", container_id=self.pods[cell.name][1], linux={"cpu_shares": 512})
        except CriError as error:
            raise RuntimeError(str(error)) from None

    def pause(self, cell: Cell) -> None:
        for act in ("pause", "resume"):
            run("ctr", "--namespace", "k8s.io", "task", act, self.pods[cell.name][1])

    def remove(self, cell: Cell) -> None:
        try:
            self.pods[cell.name][0].close()
        except CriError as error:
            raise RuntimeError(str(error)) from None
