"""Runs the commands of the pages on the machine that systemd has booted; run there by a service.

    documented_guest.py SETTINGS.json

SETTINGS: work (directory, the same inside and outside), machine ("engines" or "network"), deb (the Debian package),
config (of the hook), image (directory of an image), checkout (of this repository), blocks: {page, commands, ways}. It
writes WORK/report.json: of each command the page, what was run, the exit status and the end of what it said.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LOCAL = "localhost/image:latest"
NAMES = (LOCAL, "docker.io/library/debian:latest")
ENDLESS = ("oci-gpu top", "oci-gpu top --json", "oci-gpu log --follow", "oci-gpu metrics --listen")
ROCM, CUDA = "rocm/pytorch:latest", "nvidia/cuda:13.0.1-base-ubuntu24.04"  # pages name them; the same image as LOCAL
CONFIG = "/etc/oci-gpu-hook/config.toml"
_RUNTIME = "docker run --detach --runtime oci-gpu --name web"
_BY_NAME = "docker run --runtime oci-gpu -e"


def _simulated(platform: str) -> tuple[str, ...]:
    """Return what makes the host one with two GPUs of another platform."""
    return (
        f"oci-gpu simulate /srv/{platform} --platform {platform} --gpus {1 if platform == 'wsl2' else 2}",
        f"cp --no-clobber {CONFIG} /srv/config.toml",
        f"cp /srv/{platform}/config.toml {CONFIG}",
    )


def _described(kind: str, major: int, *names: str) -> str:
    """Return what writes a CDI specification, and makes its nodes."""
    vendor = kind.partition(".")[0]
    devices = [{"name": name, "containerEdits": {"deviceNodes": [{"path": f"/dev/{vendor}-{name}"}]}} for name in names]
    specification = {"cdiVersion": "0.5.0", "kind": kind, "devices": devices}
    nodes = "".join(f"mknod /dev/{vendor}-{name} c {major} {number} && " for number, name in enumerate(names))
    return f"{nodes}mkdir --parents /etc/cdi && echo '{json.dumps(specification)}' >/etc/cdi/{vendor}.json"


def _written(page: str) -> tuple[str, ...]:
    """Return what writes the files that a block of a page has, each below a comment with its path."""
    text = (Path(__file__).parents[2] / page).read_text()
    files = re.findall(r"^# (/etc/\S+)\n(.+?)(?=^# /etc/|^```)", text, re.MULTILINE | re.DOTALL)
    return tuple(f"cat >{path} <<'END'\n{content}END" for path, content in files)


# What a reader has done by the time of a command, by its first words; once a block.
BEFORE = {
    "oci-gpu run": (
        *("oci-gpu install docker", "oci-gpu install podman", "oci-gpu install containerd"),
        "systemctl restart containerd docker",
    ),
    "docker service create": ("docker swarm init --advertise-addr 127.0.0.1",),
    "podman inspect": (f"podman run --detach --name web --env NVIDIA_VISIBLE_DEVICES=0 {LOCAL} /bin/sleep 1000",),
    "podman run -e NVIDIA_VISIBLE_DEVICES=9": ("oci-gpu install podman",),
    "oci-gpu attach": (f"{_RUNTIME} {LOCAL} /bin/sleep 1000",),
    "oci-gpu log": (f"{_RUNTIME} --env NVIDIA_VISIBLE_DEVICES=0 {LOCAL} /bin/sleep 1000",),
    "oci-gpu metrics": ("mkdir --parents /var/lib/prometheus/node-exporter",),
    f"{_BY_NAME} OCI_GPU_DEVICES=amd.com/gpu=0,vendor.com": (
        _described("amd.com/gpu", 240, "0"),
        _described("vendor.com/nic", 241, "eth7"),
        _described("habana.ai/gaudi", 242, "0", "1"),
    ),
    f"{_BY_NAME} AMD_VISIBLE_DEVICES": _simulated("amd"),
    f"{_BY_NAME} OCI_GPU_DEVICES=intel": _simulated("intel"),
    f"{_BY_NAME} NVIDIA_VISIBLE_DEVICES=all nvidia/cuda": _simulated("wsl2"),
    "systemctl daemon-reload": _written("docs/metrics.md"),
    "python3 -m venv": ("apt-get update", "apt-get install --yes python3-venv gcc libc6-dev"),
}
AFTER = {
    "docker service create": ("docker swarm leave --force",),
    "podman inspect": ("podman rm --force web",),
    "oci-gpu detach web --all": ("docker rm --force web",),
    "oci-gpu log --json": ("docker rm --force web",),
    f"{_BY_NAME} OCI_GPU_KIND=habana": ("rm --recursive /etc/cdi",),
    f"{_BY_NAME} NVIDIA_VISIBLE_DEVICES=all nvidia/cuda": (f"mv /srv/config.toml {CONFIG}",),
    "systemctl enable --now oci-gpu-metrics.timer": (
        "systemctl start oci-gpu-metrics.service",
        "systemctl disable --now oci-gpu-metrics.timer",
    ),
    "journalctl --unit oci-gpu-watch": ("systemctl disable --now oci-gpu-watch",),
    "systemctl enable --now oci-gpu-hook-cdi": (
        "systemctl disable --now oci-gpu-hook-cdi.service oci-gpu-hook-cdi.path",
    ),
    "systemctl daemon-reload && systemctl start oci-gpu-hook.socket": ("oci-gpu uninstall resident",),
}


class Guest:
    """The machine, from the inside."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.work = Path(settings["work"])
        self.seen: list[dict[str, Any]] = []
        self.environment = {
            "HOME": "/root",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND": "noninteractive",
            "TERM": "dumb",
        }

    def shell(self, command: str) -> tuple[int, str]:
        """Run a command as at a prompt, whose questions are answered by yes; return its status and what it said."""
        limit = "timeout --signal=INT 4 " if command.startswith(ENDLESS) and "--once" not in command else ""
        said = self.work / "said"
        with said.open("w") as file:  # a file, since containers keep what they inherit
            done = subprocess.run(
                ["/bin/bash", "-c", limit + command],
                check=False,
                input=b"y\n" * 8,
                stdout=file,
                stderr=file,
                timeout=300,
                cwd=self.settings.get("checkout") or "/",
                env=self.environment,
            )
        status = 0 if limit and done.returncode in (124, 130) else done.returncode
        return status, said.read_text(errors="replace")[-3000:]

    def must(self, *commands: str) -> None:
        for command in commands:
            status, said = self.shell(command)
            if status:
                raise RuntimeError(f"{command}: {said}")

    def run(self, block: dict[str, Any]) -> None:
        """Run the commands of a block, with what precedes and follows."""
        done: set[str] = set()
        for command in block["commands"]:
            for first in set(_of(BEFORE, command)) - done:
                done |= {first}
                self.must(*BEFORE[first])
            if "systemctl restart" in command:  # many in a short time are a fault to systemd
                self.shell("systemctl reset-failed docker containerd")
            status, said = self.shell(command)
            self.seen.append({"page": block["page"], "command": command, "status": status, "said": said})
            for first in _of(AFTER, command):
                self.must(*AFTER[first])

    def set_up_engines(self) -> None:
        """Install the package, name the simulated host, give each engine its place and the image."""
        self.must(f"dpkg --install {self.settings['deb']}", "umount --recursive /sys/kernel")
        self._fit_runtimes()
        text = Path(self.settings["config"]).read_text().split("\n[log]")[0]
        Path(CONFIG).write_text(f'{text}\n[log]\nfile = "/var/log/oci-gpu-hook.log"\n')
        bundle = Path("/srv/bundle")
        (bundle / "rootfs").mkdir(parents=True)
        (bundle / "config.json").write_text(
            '{"process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]}, "root": {"path": "rootfs"}}'
        )
        docker = {"data-root": f"{self.work}/docker", "bridge": "none", "iptables": False}
        files = {
            "docker/daemon.json": json.dumps(docker),
            "containerd/config.toml": f'version = 2\nroot = "{self.work}/containerd"\n',
            "containers/storage.conf": f'[storage]\ndriver = "vfs"\ngraphroot = "{self.work}/podman"\n'
            'runroot = "/run/containers/storage"\n',
            "containers/containers.conf": "[containers]\npids_limit = 0\n",
        }
        for name, content in files.items():
            path = Path("/etc", name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        self.must("systemctl reset-failed docker containerd", "systemctl restart containerd docker")
        archive, saved = self.work / "image.tar", self.work / "saved.tar"
        rocminfo = Path(self.settings["image"], "usr/bin/rocminfo")
        rocminfo.write_text("#!/bin/sh\nexec ls -l /dev/kfd /dev/dri/renderD*\n")
        rocminfo.chmod(0o755)
        self.must(f"tar -C {self.settings['image']} -cf {archive} .")
        for name in NAMES:
            self.must(
                f"docker import --change 'CMD [\"true\"]' {archive} {name}",
                f"podman import --change CMD=true {archive} {name}",
            )
        self.must(*(f"docker tag {LOCAL} {name}" for name in (ROCM, CUDA)))
        self.must(
            f"podman save --format=oci-archive --output={saved} {LOCAL}",
            f"ctr images import --no-unpack --index-name {LOCAL} {saved}",
        )

    def _fit_runtimes(self) -> None:
        """Have the runtimes start what they can on a machine inside a container, which lacks a right and controllers.

        crun 1.8 sets RLIMIT_MEMLOCK, which takes CAP_SYS_RESOURCE: runc stands in for it where that is refused. ctr
        gives containers a weight, which runc refuses where the cgroup has no controller for it: it is left out there.
        """
        if self.shell("prlimit --memlock=unlimited:unlimited true")[0]:
            Path("/usr/bin/crun").write_text('#!/bin/sh\nexec /usr/sbin/runc "$@"\n')
        if "cpu" not in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split():
            self.must("mv /usr/sbin/runc /usr/sbin/runc-of-debian")
            runc = Path("/usr/sbin/runc")
            weightless = 's/"cpu": *{"shares": *[0-9]*}/"cpu": {}/'
            runc.write_text(
                f"#!/bin/sh\n[ ! -e config.json ] || sed -i '{weightless}' config.json\n"
                'exec /usr/sbin/runc-of-debian "$@"\n'
            )
            runc.chmod(0o755)

    def set_up_network(self) -> None:
        """Nothing but what an installer of Debian leaves."""
        shutil.copy(f"{self.work}/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt")
        shutil.copy(f"{self.work}/apt.conf", "/etc/apt/apt.conf.d/90test")


def _of(commands: Iterable[str], command: str) -> list[str]:
    return [start for start in commands if command.startswith(start)]


def main() -> None:
    guest = Guest(json.loads(Path(sys.argv[1]).read_text()))
    failure = ""
    try:
        getattr(guest, f"set_up_{guest.settings['machine']}")()
        for block in guest.settings["blocks"]:
            guest.run(block)
    except Exception as error:  # noqa: BLE001  it is raised again outside
        failure = f"{type(error).__name__}: {error}"
    text = json.dumps({"failure": failure, "seen": guest.seen}, indent=1)
    (guest.work / "report.json.new").write_text(text)
    os.replace(guest.work / "report.json.new", guest.work / "report.json")


if __name__ == "__main__":
    main()
