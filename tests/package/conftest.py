"""The Debian package, and a machine for it: a root directory whose changes are thrown away."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.systemd import root as roots

ROOT = Path(__file__).parents[2]
# What the package depends on and recommends, and what the simulated host is built with.
PACKAGES = (
    "python3",
    "python3-jsonschema",
    "python3-psutil",
    "python3-rich",
    "python3-yaml",
    "python3-structlog",
    "python3-yaml",
    "runc",
    "gcc",
    "libc6-dev",
)
DIRECTORIES = ("etc", "usr", "var/lib/systemd")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    if not shutil.which("dpkg-deb"):
        pytest.skip("not installed: dpkg-deb")
    directory = tmp_path_factory.mktemp("dist")
    return Path(
        subprocess.run([ROOT / "package/deb.sh", directory], check=True, capture_output=True, text=True).stdout.strip()
    )


class Machine:
    """A root directory whose changes are thrown away, with the host's kernel."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, check: bool = True):
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            ["chroot", self.root, *command], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def tree(self):
        """Return every path of the system's directories; caches that any package leaves are passed over."""
        found = set()
        for top in DIRECTORIES:
            for directory, names, files in os.walk(self.root / top):
                found |= {os.path.relpath(os.path.join(directory, name), self.root) for name in names + files}
        return {path for path in found if "__pycache__" not in path or "oci-gpu" in path}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("needs root (chroot)")
    if not shutil.which("debootstrap"):
        pytest.skip("not installed: debootstrap")
    base = roots.build(PACKAGES)
    work = tmp_path_factory.mktemp("root")
    for name in ("upper", "work", "root"):
        (work / name).mkdir()
    layers = work / "layers"  # the upper layer of an overlay may not be on one itself
    layers.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", layers], check=True)
    for name in ("upper", "work"):
        (layers / name).mkdir(mode=0o755)
    options = f"lowerdir={base},upperdir={layers}/upper,workdir={layers}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, work / "root"], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", work / "root/proc"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", work / "root/run"], check=True)
    try:
        yield Machine(work / "root")
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", work / "root"], check=True)
        subprocess.run(["umount", "--lazy", layers], check=True)
