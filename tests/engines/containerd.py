"""containerd of the engines' machine, with ctr and with the CRI."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator

from tests.cri.client import Client, NotThereError
from tests.cri.pods import Engine
from tests.engines.answer import Answer
from tests.engines.machine import EngineMachine

IMAGE = "docker.io/test/image:latest"


class Containerd:
    """containerd: `run` is by ctr, `kubernetes` is what a kubelet talks to."""

    def __init__(self, engines: EngineMachine) -> None:
        self.engines = engines
        self.directory = engines.work / "containerd"
        self.directory.mkdir()
        self.config = self.directory / "config.toml"
        self.socket = self.directory / "socket"
        self.runtime = engines.libexec / "oci-gpu-runtime"
        self.cri = Client(self.socket)
        self.kubernetes = Engine(self.cri, IMAGE, f"/{engines.cgroup}/POD", self.directory / "pods")
        self._ctr = ("ctr", "--address", self.socket)

    def configure(self) -> None:
        """Write its configuration as an administrator has it before anything is installed."""
        where = self.directory
        self.config.write_text(
            f'version = 2\nroot = "{where}/root"\nstate = "{where}/state"\n'
            f'\n[grpc]\n  address = "{self.socket}" # its own\n'
            f'\n[plugins."io.containerd.internal.v1.opt"]\n  path = "{where}/opt"\n'
            # A machine with few rights refuses the scores that the CRI would set.
            f'\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "{IMAGE}"\n  restrict_oom_score_adj = true\n'
            "  enable_cdi = true\n"  # 1.7 has it off, later ones on, 1.6 does not know it
        )

    def start(self) -> None:
        """Start the daemon and import the image, for ctr and for Kubernetes."""
        self.serve()
        archive = oci_archive(self.engines.image, self.directory)
        options: tuple[str, ...] = ("--base-name", "test", "--no-unpack")
        if "--local" in self.engines.run(*self._ctr, "images", "import", "--help").stdout:
            options = ("--local", *options)  # since 2.0 the daemon imports unless told otherwise, and knows neither
        for namespace in ("default", "k8s.io"):
            self.engines.run(*self._ctr, "--namespace", namespace, "images", "import", *options, archive)
        deadline = time.monotonic() + 60
        while not self._cri_has_image():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def serve(self) -> None:
        """Start the daemon; its CRI is ready a moment after it answers."""
        self.daemon = self.engines.start("containerd", "--config", self.config, until=(*self._ctr, "version"))
        deadline = time.monotonic() + 60
        while not self._cri_is_ready():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _cri_has_image(self) -> bool:
        """Tell whether the CRI has heard of the image that was imported beside it, and marked it as its own."""
        listed = self.engines.run(*self._ctr, "--namespace", "k8s.io", "images", "list").stdout
        return "io.cri-containerd.image=managed" in listed

    def _cri_is_ready(self) -> bool:
        try:
            self.cri("ListPodSandbox")
        except NotThereError:
            return False
        return True

    @contextlib.contextmanager
    def crashed(self) -> Iterator[None]:
        """Have no daemon meanwhile, as after a crash; containers and their shims live on."""
        self.daemon.kill()
        self.daemon.wait()
        try:
            yield
        finally:
            self.serve()

    def version(self) -> tuple[int, int]:
        """Return the first two numbers of its version."""
        major, minor = self.cri("Version").runtime_version.lstrip("v").split(".")[:2]
        return int(major), int(minor)

    def run(self, *options: str, probe: tuple[str, ...] = (), name: str = "c1") -> Answer:
        """Run a probe in a container to its end."""
        cgroup = ("--cgroup", f"/{self.engines.cgroup}/{name}")
        runc = ("--runc-binary", self.runtime)
        done = self.engines.run(
            *(*self._ctr, "run", "--rm", *cgroup, *runc, *options, IMAGE, name, "/probe", *probe), check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr)


def oci_archive(image, directory):
    """Pack a directory as an image of one layer (OCI image specification 1.0, image-layout.md); return the tar."""
    layout = directory / "layout"
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(data: bytes, kind: str) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    layer = add(subprocess.run(["tar", "-C", image, "-c", "."], capture_output=True, check=True).stdout, "layer.v1.tar")
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    settings = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sleep", "86400"]},  # of a pod's sandbox
        "rootfs": rootfs,
    }
    config = add(json.dumps(settings).encode(), "config.v1+json")
    manifest = add(json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode(), "manifest.v1+json")
    manifest["annotations"] = {"io.containerd.image.name": IMAGE}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    archive = directory / "image.tar"
    subprocess.run(["tar", "-C", layout, "-cf", archive, "."], check=True)
    return archive
