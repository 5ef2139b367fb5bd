"""GPUs attached to containers of Docker and Podman outlast what happens to these, and end with them."""

from __future__ import annotations

import json
import signal
import time
from contextlib import contextmanager

import pytest

from tests.engines.test_updates import LIMIT

OPENS = ("open=/dev/nvidia0", "open=/dev/nvidia1", "dlopen=libcuda.so.1")


@pytest.fixture
def check(simulated):
    """Check that a container has GPU 1, or none."""

    def see(engine, container: str, *, has_it: bool = True) -> None:
        seen = engine.exec(container, *OPENS)
        assert seen["open=/dev/nvidia1"] == ("ENXIO" if has_it else "ENOENT")
        assert seen["open=/dev/nvidia0"] == "ENOENT"
        assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1") == has_it

    return see


def nothing_is_left(engine, container: str) -> None:
    """Neither leases nor changes of its files, after it has ended."""
    assert engine.engines.leases() == []
    touched = engine("diff", container).stdout
    assert "nvidia" not in touched
    assert "libcuda" not in touched


def test_docker(docker, check):
    docker("run", "-d", "--net=none", "--name=web", "image", "/bin/sleep", "600")
    machine = docker.engines
    root = ("--runtime-root", f"{docker.directory}/exec/runtime-runc/moby")
    machine.oci_gpu("attach", "web", "--devices", "1", *root)
    check(docker, "web")
    for step in (("update", *LIMIT, "web"), ("pause", "web"), ("unpause", "web"), ("exec", "web", "/bin/true")):
        docker(*step)
        if step[0] != "pause":
            check(docker, "web")
    assert machine.oci_gpu("verify").endswith("has what it was given\n")
    machine.oci_gpu("detach", "web", "--all", *root)
    check(docker, "web", has_it=False)
    machine.oci_gpu("attach", "web", "--count", "2", *root)
    docker("restart", "-t", "0", "web")
    check(docker, "web", has_it=False)  # what was attached does not come back
    docker("stop", "-t", "0", "web")
    assert machine.leases() == []  # by its process; Docker has called no poststop for it


def test_podman(podman, check):
    container = podman.detached("--name=web")
    machine = podman.engines
    machine.oci_gpu("attach", "web", "--devices", "1")
    check(podman, container)
    shown = json.loads(machine.oci_gpu("leases", "--json"))
    assert [lease["container"] for lease in shown] == [container]
    podman("pause", container)
    podman("unpause", container)
    check(podman, container)
    podman("update", "--cpu-shares=512", container)
    if podman.sends_devices():
        machine.oci_gpu("repair", container)
    check(podman, container)
    podman("stop", "-t", "0", container)
    nothing_is_left(podman, container)  # by the poststop of Podman's hook
    podman("start", container)
    check(podman, container, has_it=False)


@contextmanager
def live_restore(docker):
    """Have containers live on without the daemon, as daemon.json says and the running one then does."""
    engines = docker.engines
    before = engines.path("/etc/docker/daemon.json").read_text()

    def reload(*, wanted: bool) -> None:
        engines.write("/etc/docker/daemon.json", json.dumps({**json.loads(before), "live-restore": wanted}))
        docker.daemon.send_signal(signal.SIGHUP)
        give_up = time.monotonic() + 30
        while docker("info", "--format", "{{.LiveRestoreEnabled}}").stdout.strip() != str(wanted).lower():
            assert time.monotonic() < give_up
            time.sleep(0.1)

    reload(wanted=True)
    try:
        yield
    finally:
        reload(wanted=False)
        engines.write("/etc/docker/daemon.json", before)


def restart(docker) -> None:
    """Restart the daemon."""
    docker.daemon.send_signal(signal.SIGTERM)
    docker.daemon.wait(60)
    docker.start()


def test_a_restart_of_docker_that_containers_outlive(docker, check):
    docker("run", "-d", "--net=none", "--name=web", "image", "/bin/sleep", "600")
    machine = docker.engines
    root = ("--runtime-root", f"{docker.directory}/exec/runtime-runc/moby")
    machine.oci_gpu("attach", "web", "--devices", "1", *root)
    with live_restore(docker):
        restart(docker)
        check(docker, "web")
        docker("update", *LIMIT, "web")
        check(docker, "web")
        assert machine.oci_gpu("verify").endswith("has what it was given\n")
        machine.oci_gpu("detach", "web", "--all", *root)
        check(docker, "web", has_it=False)
        assert machine.leases() == []
        machine.oci_gpu("attach", "web", "--devices", "1", *root)
        check(docker, "web")


def test_a_restart_of_docker_that_ends_containers(docker, check):
    docker("run", "-d", "--net=none", "--name=web", "image", "/bin/sleep", "600")
    machine = docker.engines
    root = ("--runtime-root", f"{docker.directory}/exec/runtime-runc/moby")
    machine.oci_gpu("attach", "web", "--devices", "1", *root)
    restart(docker)
    assert machine.leases() == []
    docker("start", "web")
    check(docker, "web", has_it=False)  # it gets what it asks for


def test_a_crash_of_containerd(containerd, pods):
    container = pods("web", handler="").start("web", "/bin/sleep", "600")
    machine = containerd.engines
    machine.oci_gpu("attach", container, "--devices", "1")
    with containerd.crashed():
        assert machine.oci_gpu("verify").endswith("has what it was given\n")
    assert [lease["container"] for lease in machine.leases()] == [container]
    machine.oci_gpu("detach", container, "--all")
    assert machine.leases() == []
