"""The Debian package, installed in a fresh root directory, used, and removed to the last file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
STAYS = ("usr/share/info", "usr/share/containers")  # directories that `oci-gpu install` has made


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


def test_no_engine_is_changed_by_the_package_itself(installed, before):
    added = installed.tree() - before
    assert not [path for path in added if "hooks.d" in path or path.startswith(("etc/docker", "etc/containers"))]


def test_the_files_are_as_packaged(installed):
    assert installed.run("dpkg", "--verify", "oci-gpu-hook").stdout == ""
    assert (installed.root / "usr/share/man/man1/oci-gpu.1.gz").exists()
    example = installed.root / "usr/share/doc/oci-gpu-hook/examples/config.toml"
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.base.config.toml import parse

    assert parse(example.read_text()) == Config()


def test_the_units_and_the_completion_are_sound(installed):
    units = [path.name for path in (installed.root / "usr/lib/systemd/system").glob("oci-gpu-*")]
    assert len(units) == 6
    for unit in ("oci-gpu-watch.service", "oci-gpu-hook.socket"):
        assert not list((installed.root / "etc/systemd/system").rglob(unit)), "off until it is enabled"
    if shutil.which("systemd-analyze"):
        command = ["systemd-analyze", "verify", "--man=no", f"--root={installed.root}", *units]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
        # The root directory has no systemd, so no targets to order by.
        assert [line for line in said if "oci-gpu-" in line and ".target not found" not in line] == []
    script = installed.root / "usr/share/bash-completion/completions/oci-gpu"
    subprocess.run(["bash", "-n", script], check=True)


def test_an_upgrade_keeps_it_running(installed):
    installed.run("dpkg", "--install", "/tmp/package.deb")
    assert (installed.root / "usr/libexec/oci-gpu-hook/oci-gpu-hook").exists()
    installed.run("dpkg-trigger", "--no-await", "/usr/bin/python3")
    installed.run("dpkg", "--triggers-only", "--pending")
    test_the_hook_runs_without_anything_of_the_environment(installed)


def test_an_upgrade_from_0_1_0_keeps_podman_served(installed):
    """That version had the hook's file for Podman and CRI-O among its own, and dpkg removes what a package lost."""
    file = installed.root / "usr/share/containers/oci/hooks.d/oci-gpu-hook.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}")
    listed = installed.root / "var/lib/dpkg/info/oci-gpu-hook.list"
    with listed.open("a") as names:
        names.write("/usr/share/containers/oci/hooks.d/oci-gpu-hook.json\n")
    installed.run("dpkg", "--install", "/tmp/package.deb")
    assert json.loads(file.read_text())["hook"]["path"] == "/usr/libexec/oci-gpu-hook/oci-gpu-hook"


def test_removal_with_a_running_container_leaves_what_it_needs(installed):
    libexec = installed.root / "usr/libexec/oci-gpu-hook"
    runs = ["/usr/sbin/chroot", str(installed.root), "/bin/sh", "-c", "echo runs; read _"]
    command = [*runs, "conmon", "-r", "/usr/libexec/oci-gpu-hook/oci-gpu-runtime"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as container:
        assert container.stdout
        container.stdout.readline()
        done = installed.run("dpkg", "--remove", "oci-gpu-hook")
        assert f"still need them: process {container.pid} " in done.stderr
        assert not (installed.root / "usr/lib/oci-gpu-hook").exists()
        assert "runc version" in installed.run("/usr/libexec/oci-gpu-hook/oci-gpu-runtime", "--version").stdout
        installed.run("/usr/libexec/oci-gpu-hook/oci-gpu-runtime", "delete", "--force", "nothing")
        container.communicate()
    installed.run("dpkg", "--install", "/tmp/package.deb")
    assert (libexec / "oci-gpu-hook").exists()


def test_removal_leaves_nothing(installed, before):
    (installed.root / "etc/docker").mkdir()
    installed.run("oci-gpu", "install", "docker", "--file", "/etc/docker/daemon.json")
    installed.run("dpkg", "--purge", "oci-gpu-hook")
    assert not (installed.root / "etc/docker/daemon.json").exists()
    left = {path for path in installed.tree() - before if not path.startswith(("etc/docker", *STAYS))}
    assert {path for path in left if "oci" in path or "gpu" in path or "nvidia" in path} == set()
    assert before - installed.tree() == set()
