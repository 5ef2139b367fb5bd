"""Boots a distribution with all its engines, has the guest do its work there, and returns the report."""

from __future__ import annotations

import os
from pathlib import Path

from oci_gpu_hook.admin.simulate.host import make
from tests.systemd import root as roots
from tests.systemd.machine import Machine

DISTRIBUTIONS = {"bookworm": "Debian 12", "trixie": "Debian 13", "sid": "Debian unstable"}
PACKAGES = (
    *("systemd", "systemd-sysv", "libpam-systemd", "dbus", "dbus-user-session", "python3", "runc", "crun", "podman"),
    *("netavark", "aardvark-dns", "catatonit", "docker.io", "docker-compose", "containerd", "uidmap", "slirp4netns"),
    *("containernetworking-plugins", "fuse-overlayfs", "rootlesskit", "iptables", "iproute2", "procps", "kmod"),
    *("ca-certificates", "python3-grpcio", "python3-protobuf"),
)
# Since Debian 13 the client of Docker is a package of its own, Podman's users go by pasta, and gRPC wants a virtual
# package, which debootstrap does not resolve.
_SINCE_13 = ("docker-cli", "passt", "libre2-11")
PACKAGES_OF = {"trixie": _SINCE_13, "sid": _SINCE_13}
GPUS = 8
_TIMEOUT = 1200  # seconds; 150 are needed on two cores


def chosen() -> list[str]:
    """Return the releases that are to be tried: those that $OCI_GPU_DISTRIBUTIONS names, else this machine's own."""
    named = os.environ.get("OCI_GPU_DISTRIBUTIONS", "").split()
    own = roots.own_release()
    return named or ([own] if own in DISTRIBUTIONS else ["bookworm"])


def packages(release: str) -> tuple[str, ...]:
    """Return the packages of a release's root directory."""
    return (*PACKAGES, *PACKAGES_OF.get(release, ()))


def tried(release: str) -> dict:
    """Return what was seen in a release. Raises RuntimeError where it could not be booted or set up."""
    machine = Machine(roots.build(packages(release), release))
    try:
        host = make(str(machine.work / "host"), gpus=GPUS)
        settings = {"image": str(machine.image()), "dev": f"{host.dev_root}/dev"}
        machine.stage(Path(__file__).with_name("guest.py"), settings, host.config)
        report = machine.boot(_TIMEOUT)
    finally:
        machine.close()
    if report["failure"]:
        raise RuntimeError(report["failure"])
    return report
