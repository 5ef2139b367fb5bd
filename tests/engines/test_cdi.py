"""Engines that read CDI specifications give our devices with no hook or runtime of ours registered for it."""

from __future__ import annotations

import json

import pytest

from tests.engines.test_podman import assert_reaches, reach

LIBRARIES = ("dlopen=libcuda.so.1", "dlopen=libnvidia-ml.so.1")


@pytest.fixture(scope="module")
def specification(podman_installed):
    """The host's specification where engines look for it."""
    podman_installed.run("mkdir", "-p", "-m", "755", "/var/run/cdi")
    hook = podman_installed.libexec / "oci-gpu-hook"
    podman_installed.oci_gpu("cdi", "refresh", "--hook-path", hook)
    return podman_installed


def assert_uses(seen: dict, simulated, indices: tuple[int, ...]) -> None:
    assert_reaches(seen, simulated, indices)
    for library in LIBRARIES:
        assert seen[library].endswith(library.partition("=")[2])


@pytest.mark.parametrize(("name", "indices"), [("0", (0,)), ("1", (1,)), ("all", (0, 1))])
def test_podman_gives_a_device_by_its_name(podman, specification, simulated, name, indices):
    probe = (*reach(simulated), *LIBRARIES)
    seen = podman.run("--device", f"nvidia.com/gpu={name}", probe=probe).seen()
    assert_uses(seen, simulated, indices)
    assert specification.leases() == []


def test_podman_read_only_and_by_uuid(podman, specification, simulated):
    device = f"nvidia.com/gpu={simulated.gpus()[1].uuid}"
    probe = (*reach(simulated), *LIBRARIES)
    assert_uses(podman.run("--read-only", "--device", device, probe=probe).seen(), simulated, (1,))


def test_programs_of_exec_and_a_restart_find_all_of_it(podman, specification, simulated):
    container = podman.detached("--device", "nvidia.com/gpu=0")
    for _ in range(2):
        assert_uses(podman.exec(container, *reach(simulated), *LIBRARIES), simulated, (0,))
        podman("restart", "-t", "0", container)


@pytest.mark.parametrize("kind", [(), ("--read-only",)], ids=["plain", "read-only"])
def test_docker_gives_a_device_by_its_name(docker, specification, simulated, kind):
    """From version 25 on; earlier ones refuse the name."""
    answer = docker.run("--device", "nvidia.com/gpu=1", *kind, probe=(*reach(simulated), *LIBRARIES))
    if docker.reads_cdi():
        assert_uses(answer.seen(), simulated, (1,))
    else:
        assert answer.status == 125
    assert specification.leases() == []


@pytest.fixture
def nodes_in_dev(specification, simulated):
    """The simulated nodes in the machine's /dev: crun binds the host's node at the path of the container's."""
    machine = specification
    kept = {name: machine.work / f"dev-{name}" for name in ("pts", "shm")}
    for name, place in kept.items():
        place.mkdir()
        machine.run("mount", "--bind", f"/dev/{name}", place)
    machine.overlay("dev")
    for name, place in kept.items():
        machine.run("mount", "--bind", place, f"/dev/{name}")
    machine.run("cp", "-a", *(place for place in simulated.dev.iterdir() if place.name not in kept), "/dev/")
    yield
    for name in ("pts", "shm", ""):
        machine.run("umount", "--lazy", f"/dev/{name}")


def test_a_user_gets_a_device_without_any_right(user_podman, nodes_in_dev, simulated):
    """By crun: without cgroups of the user's, as here, Podman refuses runc. Programs of the driver find it, too."""
    probe = (*reach(simulated), *LIBRARIES)
    seen = user_podman.run("--device", "nvidia.com/gpu=1", probe=probe).seen()
    assert_uses(seen, simulated, (1,))
    answer = user_podman.run("--device", "nvidia.com/gpu=1", args=("nvidia-smi", "-L"))
    assert answer.status == 0, answer.stderr
    assert "NVIDIA" in answer.stdout
    assert user_podman.engines.leases() == []


def test_commit_takes_no_library_along(podman, specification):
    container = podman.detached("--device", "nvidia.com/gpu=0")
    changes = json.loads(podman("diff", "--format", "json", container).stdout)
    touched = [path for paths in changes.values() if paths for path in paths]
    assert "/etc/ld.so.cache" not in touched
