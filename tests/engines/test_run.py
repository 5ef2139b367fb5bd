"""`oci-gpu run` with the engines that have daemons: a container by each, and nothing of it afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def tried(engines, engine: str, *arguments: str, **environment: object) -> subprocess.CompletedProcess[str]:
    """Run the command on the machine, told by variables where the engine is."""
    variables = [f"{name}={value}" for name, value in environment.items()]
    done = engines.run("env", *variables, *engines.command("run", "--engine", engine, *arguments), check=False)
    assert not list(engines.path("/var/tmp").glob("oci-gpu-run-*"))
    assert engines.leases() == []
    return done


def assert_one_gpu(done: subprocess.CompletedProcess[str], engine: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("UUID") == 1
    assert f"{engine}: exit status 0, " in done.stdout


@pytest.fixture
def at_docker(docker):
    return {"DOCKER_HOST": docker.socket}


def test_docker(docker, at_docker):
    assert_one_gpu(tried(docker.engines, "docker", **at_docker), "docker")
    assert docker("ps", "-aq").stdout == ""
    assert "oci-gpu-run" not in docker("images").stdout


def test_docker_with_an_image_of_ones_own(docker, at_docker):
    done = tried(docker.engines, "docker", "image", "--", "/bin/sh", "-c", "echo in $0; exit 5", "it", **at_docker)
    assert "in it\n" in done.stdout
    assert done.returncode == 5
    assert "image" in docker("images").stdout


def test_docker_that_refuses(docker, at_docker):
    done = tried(docker.engines, "docker", "--count", "99", **at_docker)
    assert done.returncode not in (0, 2)
    assert "oci-gpu-runtime: error: " in done.stderr
    assert docker("ps", "-aq").stdout == ""


def test_docker_that_does_not_answer(docker):
    done = tried(docker.engines, "docker", DOCKER_HOST="unix:///nonexistent/socket")
    assert done.returncode == 1
    assert "dockerd does not answer: start it" in done.stderr


def test_podman(podman_installed, podman):
    conf = Path(podman_installed.work / "containers.conf")
    conf.write_text(
        f'[engine]\ncgroup_manager = "cgroupfs"\nruntime = "{podman.runtime}"\n'
        '[containers]\ndefault_ulimits = ["nofile=1000:1000", "nproc=1000:1000"]\n'
    )
    assert_one_gpu(tried(podman_installed, "podman", CONTAINERS_CONF=conf), "podman")
    refused = tried(podman_installed, "podman", "--count", "99", CONTAINERS_CONF=conf)
    assert refused.returncode != 0
    assert "oci-gpu-hook: error: " in refused.stdout + refused.stderr


@pytest.fixture
def executables(containerd):
    """Executables in their usual place, in the machine's mount namespace alone: outside they are the checkout's."""
    engines, place = containerd.engines, Path(sys.prefix, "libexec")
    place.mkdir(exist_ok=True)
    engines.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    engines.oci_gpu("hook-path")
    yield
    engines.run("umount", "--lazy", place)


def test_containerd(containerd, executables):
    engines = containerd.engines
    at = {"CONTAINERD_ADDRESS": containerd.socket}
    assert_one_gpu(tried(engines, "containerd", **at), "containerd")
    for what in ("containers", "tasks"):
        listed = engines.run("ctr", "--address", containerd.socket, what, "ls", "-q").stdout
        assert "oci-gpu-run" not in listed
