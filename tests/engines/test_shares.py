"""Parts of one GPU under each engine: two containers share it, each held to its own, and a third is refused."""

from __future__ import annotations

import pytest

from tests.cri.client import CriError
from tests.engines.answer import Answer
from tests.runtime.sharing import daemons, settle, shares

PREFIX = "io.oci-gpu-hook."
DRIVER = {"NVIDIA_VISIBLE_DEVICES": "0", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
FIRST, SECOND = ("40GiB", "50%"), ("30GiB", "25%")
SEEN = {FIRST: "40960 of 81559 MiB, 66, 0", SECOND: "30720 of 81559 MiB, 33, 0"}
MORE = "40959 of 81559 MiB, 66, 2"  # out of memory, in the process that has 1 MiB already
REFUSED = "of GPU 0 ("


def by_variables(memory: str, cores: str) -> dict[str, str]:
    return {"OCI_GPU_MEMORY_LIMIT": memory, "OCI_GPU_CORES": cores}


def by_annotations(memory: str, cores: str) -> dict[str, str]:
    return {PREFIX + "memory-limit": memory, PREFIX + "cores": cores}


def options(kind: str, values: dict[str, str]) -> tuple[str, ...]:
    return tuple(word for name, value in values.items() for word in (kind, f"{name}={value}"))


@pytest.fixture
def nothing_stays(simulated):
    """A fixture to ask for before that of an engine, whose containers are removed first."""
    yield
    settle(lambda: (daemons(simulated), shares(simulated)) == ([], []))


def test_docker_by_variables(nothing_stays, docker, simulated):
    def words(part):
        return ("--runtime", "oci-gpu", *options("-e", DRIVER | by_variables(*part)))

    first, second = docker.detached(*words(FIRST)), docker.detached(*words(SECOND))
    assert docker.exec(first, "cuda=1", "cuda=41000") == {"cuda=1": SEEN[FIRST], "cuda=41000": MORE}
    assert docker.exec(second, "cuda=1") == {"cuda=1": SEEN[SECOND]}
    third = docker.run(*words(FIRST), args=("/bin/true",))
    assert third.status != 0
    assert REFUSED in third.stderr
    assert "set" not in third.stderr.rpartition(";")[2]
    assert "and 25% of the cores, for another GPU, or wait for it with OCI_GPU_WAIT=60s" in third.stderr

    docker("pause", first)
    docker("unpause", first)
    assert docker.exec(first, "cuda=1") == {"cuda=1": SEEN[FIRST]}
    docker("restart", "-t", "0", first)
    assert docker.exec(first, "cuda=1") == {"cuda=1": SEEN[FIRST]}
    assert len(shares(simulated)) == 2
    docker("kill", "-s", "KILL", first)
    settle(lambda: len(shares(simulated)) == 1)
    assert docker.run(*words(FIRST), probe=("cuda=1",)).seen() == {"cuda=1": SEEN[FIRST]}
    docker.remove_all()


def test_podman_by_annotations(nothing_stays, podman, simulated):
    def words(part):
        return (*options("-e", DRIVER), *options("--annotation", by_annotations(*part)))

    first, second = podman.detached(*words(FIRST)), podman.detached(*words(SECOND))
    assert podman.exec(first, "cuda=1") == {"cuda=1": SEEN[FIRST]}
    assert podman.exec(second, "cuda=1") == {"cuda=1": SEEN[SECOND]}
    third = podman.run(*words(FIRST), args=("/bin/true",))
    assert third.status != 0
    if podman.runtime == "runc":  # crun 1.8 does not show what a hook says
        assert f"or wait for it with {PREFIX}wait=60s" in third.stderr
    podman("restart", "-t", "0", first)
    assert podman.exec(first, "cuda=1") == {"cuda=1": SEEN[FIRST]}
    podman("rm", "-f", "-t", "0", second)
    settle(lambda: len(shares(simulated)) == 1)
    podman("rm", "-f", "-t", "0", first)


def test_kubernetes_by_annotations(nothing_stays, pods, simulated):
    """Of the pod for each of its containers, or for one of them; a sandbox has no part."""
    both = pods("both", by_annotations(*SECOND))
    one, other = (both.start(name, env=DRIVER) for name in ("one", "other"))
    assert seen(both, one) == seen(both, other) == SEEN[SECOND]
    assert len(shares(simulated)) == 2
    named = pods("named", {f"{name}.app": value for name, value in by_annotations(*FIRST).items()})
    with pytest.raises(CriError) as refusal:
        named.start("app", env=DRIVER)
    assert f"40GiB and 50% of the cores {REFUSED}" in str(refusal.value)
    both.stop(one)
    both.remove(one)
    settle(lambda: len(shares(simulated)) == 1)
    assert seen(named, named.start("app", env=DRIVER)) == SEEN[FIRST]


def seen(pod, container: str) -> str:
    found: str = Answer(*pod.exec(container, "/probe", "cuda=1")).seen()["cuda=1"]
    return found
