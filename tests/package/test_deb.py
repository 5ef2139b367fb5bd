"""The Debian package, installed in a fresh root directory, used, and removed to the last file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.systemd import root as roots

pytestmark = pytest.mark.root

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


@pytest.fixture(scope="module")
def before(fresh):
    return fresh.tree()


@pytest.fixture(scope="module")
def installed(fresh, before, package):
    shutil.copy(package, fresh.root / "tmp/package.deb")
    done = fresh.run("dpkg", "--install", "/tmp/package.deb")
    assert "warning" not in done.stderr.lower(), done.stderr
    return fresh


def test_the_commands_run(installed):
    assert re.fullmatch(r"oci-gpu \d+\.\d+\.\d+\n", installed.run("oci-gpu", "--version").stdout)
    assert installed.run("oci-gpu", "hook-path").stdout == "/usr/libexec/oci-gpu-hook/oci-gpu-hook\n"
    refused = installed.run("oci-gpu", "info", check=False)
    assert refused.stderr.startswith("oci-gpu: error: no NVIDIA driver is loaded")


def test_the_hook_runs_without_anything_of_the_environment(installed):
    done = subprocess.run(
        ["/usr/sbin/chroot", installed.root, "/usr/libexec/oci-gpu-hook/oci-gpu-hook", "prestart"],
        input="{}",
        env={"PYTHONHOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("oci-gpu-hook: error: OCI state: has no bundle")


def test_nvml_is_asked_through_the_module_of_the_package(installed):
    installed.run("oci-gpu", "simulate", "/srv/host", "--gpus", "2", "--no-device-nodes")
    shown = installed.run("oci-gpu", "--config", "/srv/host/config.toml", "info").stdout
    assert "CUDA 13.0, 2 GPUs" in shown
    assert "warning" not in shown


def test_the_doctor_finds_the_package_in_order(installed):
    found = installed.run("oci-gpu", "doctor", check=False).stdout
    executables = found.partition("executables\n")[2].partition("engines\n")[0]
    assert "  ok      /usr/libexec/oci-gpu-hook/oci-gpu-hook runs by /usr/bin/python3" in executables
    assert "warning" not in executables
    assert "error" not in executables


def test_podman_and_cri_o_find_the_hook_as_install_would_lay_it(installed):
    done = installed.run("oci-gpu", "install", "podman", "--hooks-directory", "/usr/share/containers/oci/hooks.d")
    assert "Nothing to change" in done.stdout


def test_the_files_are_as_packaged(installed):
    assert installed.run("dpkg", "--verify", "oci-gpu-hook").stdout == ""
    assert (installed.root / "usr/share/man/man1/oci-gpu.1.gz").exists()
    example = installed.root / "usr/share/doc/oci-gpu-hook/examples/config.toml"
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.base.config.toml import parse

    assert parse(example.read_text()) == Config()


def test_the_units_and_the_completion_are_sound(installed):
    units = [path.name for path in (installed.root / "usr/lib/systemd/system").glob("oci-gpu-hook-*")]
    assert len(units) == 3
    if shutil.which("systemd-analyze"):
        command = ["systemd-analyze", "verify", "--man=no", f"--root={installed.root}", *units]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
        # The root directory has no systemd, so no targets to order by.
        assert [line for line in said if "oci-gpu-hook" in line and ".target not found" not in line] == []
    script = installed.root / "usr/share/bash-completion/completions/oci-gpu"
    subprocess.run(["bash", "-n", script], check=True)


def test_an_upgrade_keeps_it_running(installed):
    installed.run("dpkg", "--install", "/tmp/package.deb")
    assert (installed.root / "usr/libexec/oci-gpu-hook/oci-gpu-hook").exists()
    installed.run("dpkg-trigger", "--no-await", "/usr/bin/python3")
    installed.run("dpkg", "--triggers-only", "--pending")
    test_the_hook_runs_without_anything_of_the_environment(installed)


def test_removal_leaves_nothing(installed, before):
    (installed.root / "etc/docker").mkdir()
    installed.run("oci-gpu", "install", "docker", "--file", "/etc/docker/daemon.json")
    installed.run("dpkg", "--purge", "oci-gpu-hook")
    assert not (installed.root / "etc/docker/daemon.json").exists()
    left = {path for path in installed.tree() - before if not path.startswith(("etc/docker", "usr/share/info"))}
    assert {path for path in left if "oci" in path or "gpu" in path or "nvidia" in path} == set()
    assert before - installed.tree() == set()
