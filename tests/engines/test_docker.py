"""Docker by its two ways: `--runtime oci-gpu` and `--gpus`."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.runtime.test_devices import assert_reaches, reach

RUNTIME = ("--runtime", "oci-gpu")
ONE = ("-e", "OCI_GPU_COUNT=1", "-e", "OCI_GPU_EXCLUSIVE=1")


def test_the_runtime_gives_the_gpu_that_is_asked_for(docker, simulated):
    options = (*RUNTIME, "-e", "NVIDIA_VISIBLE_DEVICES=1")
    seen = docker.run(*options, probe=(*reach(simulated), "dlopen=libcuda.so.1", "stat=/usr/bin/nvidia-smi")).seen()
    assert_reaches(seen, simulated, (1,))
    assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")


def test_nvidia_smi_lists_the_granted_gpu(docker, simulated):
    answer = docker.run(
        *RUNTIME, "-e", "NVIDIA_VISIBLE_DEVICES=1", args=("/bin/sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES")
    )
    assert answer.stdout.strip() == simulated.gpus()[1].uuid


@pytest.mark.parametrize(("gpus", "indices"), [("all", (0, 1)), ("2", (0, 1)), ("1", (0,)), ('"device=1"', (1,))])
def test_gpus_option(docker, simulated, gpus, indices):
    assert_reaches(docker.run("--gpus", gpus, probe=tuple(reach(simulated))).seen(), simulated, indices)


def test_both_ways_at_once_are_one(docker, simulated):
    answer = docker.run(*RUNTIME, "--gpus", '"device=0"', probe=(*reach(simulated), "mountinfo"))
    seen = answer.seen()
    assert_reaches(seen, simulated, (0,))
    mounted = [line.split()[4] for line in seen["mountinfo"].splitlines()]
    assert len(mounted) == len(set(mounted))


@pytest.mark.parametrize("options", [(), RUNTIME, (*RUNTIME, "-e", "NVIDIA_VISIBLE_DEVICES=void")])
def test_a_container_that_asks_for_nothing_is_left_alone(docker, options):
    container = docker.detached(*options)
    bundles = docker.directory / "exec/containerd/daemon/io.containerd.runtime.v2.task/moby"
    config = json.loads(docker.engines.path(bundles / container / "config.json").read_bytes())
    hooks = config.get("hooks", {})  # Docker 28 writes none where there is none, those before its own
    assert not [hook for stage in hooks.values() for hook in stage if "oci-gpu-hook" in hook["args"]]
    assert "nvidia" not in json.dumps(config["linux"].get("devices"))
    assert not config.get("annotations")
    assert not [name for name in docker.exec(container, "list=/dev")["list=/dev"] if name.startswith("nvidia")]


def test_a_refusal_is_what_docker_shows(docker):
    answer = docker.run(*RUNTIME, "-e", "NVIDIA_VISIBLE_DEVICES=9", args=("/bin/true",))
    assert answer.status != 0
    assert "oci-gpu-runtime: error: " in answer.stderr
    answer = docker.run("--gpus", '"device=9"', args=("/bin/true",))
    assert answer.status != 0
    assert "oci-gpu-hook: error: " in answer.stderr


def test_two_at_once_share_nothing_and_a_third_is_told_who_has_it(docker, simulated):
    first, second = docker.detached(*RUNTIME, *ONE), docker.detached(*RUNTIME, *ONE)
    seen = [docker.exec(container, *reach(simulated)) for container in (first, second)]
    given = [next(gpu.index for gpu in simulated.gpus() if each[f"open={gpu.node}"] == "ENXIO") for each in seen]
    assert sorted(given) == [0, 1]
    for index, each in zip(given, seen, strict=True):
        assert_reaches(each, simulated, (index,))
    third = docker.run(*RUNTIME, *ONE, args=("/bin/true",))
    assert third.status != 0
    assert first[:12] in third.stderr
    docker("rm", "-f", first)
    assert docker.run(*RUNTIME, *ONE, args=("/bin/true",)).status == 0


@pytest.mark.parametrize("way", [(*RUNTIME, "-e", "NVIDIA_VISIBLE_DEVICES=0"), ("--gpus", '"device=0"')])
def test_stop_start_restart_and_exec(docker, simulated, way):
    container = docker.detached(*way)
    for step in ((), ("restart", "-t", "0"), ("stop", "-t", "0"), ("start",)):
        if step:
            docker(*step, container)
        if step[:1] != ("stop",):
            assert_reaches(docker.exec(container, *reach(simulated)), simulated, (0,))
            (lease,) = docker.engines.leases()
            assert (lease["container"], lease["engine"]) == (container, "docker")
            assert f"/{lease['name']}" == docker("inspect", "--format", "{{.Name}}", container).stdout.strip()
        else:
            assert docker.engines.leases() == []


def driver_remains(docker, image: str, simulated) -> list[str]:
    """Return what an image has of the driver: empty files, and links with its version or to its libraries."""
    named = "-name 'libcuda*' -o -name 'libnvidia*' -o -name 'nvidia-*'"
    script = f"find / -xdev \\( -type f -size 0 -o -type l \\) \\( {named} \\)"
    found = docker(
        "run", "--rm", "--net=none", image, "/bin/busybox", "sh", "-c", f"/bin/busybox {script}", check=False
    )
    return found.stdout.split()


@pytest.mark.parametrize("moment", ["stopped", "restarted and stopped"])
def test_an_image_committed_of_a_stopped_container_has_nothing_of_the_driver(docker, simulated, moment):
    container = docker.detached(*RUNTIME, "-e", "NVIDIA_VISIBLE_DEVICES=all")
    if moment.startswith("restarted"):
        docker("restart", "-t", "0", container)
    docker("stop", "-t", "0", container)
    docker("commit", container, "committed")
    assert driver_remains(docker, "committed", simulated) == []
    changes = [line.split()[1] for line in docker("diff", container).stdout.splitlines()]
    assert [path for path in changes if "nvidia" in path or "libcuda" in path] == []


@pytest.mark.parametrize("kept_by", ["running", "--gpus"])
def test_an_image_that_has_places_of_mounts_works_again(docker, simulated, kept_by):
    """They are in the layer while the container runs, and after `--gpus` alone, for which dockerd calls no poststop."""
    if kept_by == "running":
        container = docker.detached(*RUNTIME, "-e", "NVIDIA_VISIBLE_DEVICES=all")
    else:
        container = docker.detached("--gpus", "all")
        docker("stop", "-t", "0", container)
    docker("commit", container, "committed")
    docker("rm", "-f", container)
    assert driver_remains(docker, "committed", simulated) != []  # so the search is one that finds
    options = ("run", "--rm", "--net=none", *RUNTIME, "-e", "NVIDIA_VISIBLE_DEVICES=0", "committed", "/probe")
    seen = docker(*options, *reach(simulated), "dlopen=libcuda.so.1").seen()
    assert_reaches(seen, simulated, (0,))
    assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")


def test_as_the_default_runtime_it_cleans_after_gpus_too(docker, simulated):
    engines = docker.engines
    before = engines.path("/etc/docker/daemon.json").read_text()
    engines.oci_gpu("install", "docker", "--default", "--directory", engines.libexec)
    docker.daemon.send_signal(signal.SIGHUP)
    try:
        give_up = time.monotonic() + 20
        while json.loads(docker("info", "--format", "{{json .DefaultRuntime}}").stdout) != "oci-gpu":
            assert time.monotonic() < give_up
            time.sleep(0.1)
        container = docker.detached("--gpus", "all")
        assert_reaches(docker.exec(container, *reach(simulated)), simulated, (0, 1))
        docker("stop", "-t", "0", container)
        docker("commit", container, "committed")
        assert driver_remains(docker, "committed", simulated) == []
        assert docker.run(args=("/bin/true",)).status == 0
    finally:
        engines.write("/etc/docker/daemon.json", before)
        docker.daemon.send_signal(signal.SIGHUP)


def test_uninstall_puts_back_what_was(docker):
    engines = docker.engines
    installed = engines.path("/etc/docker/daemon.json").read_text()
    try:
        engines.oci_gpu("uninstall", "docker")
        assert engines.path("/etc/docker/daemon.json").read_text() == docker.settings
        assert not os.path.lexists(engines.path("/usr/bin/nvidia-container-runtime-hook"))
    finally:
        engines.oci_gpu("install", "docker", "--directory", engines.libexec)
        assert engines.path("/etc/docker/daemon.json").read_text() == installed
