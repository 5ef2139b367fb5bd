"""Podman by hooks.d: of root with crun and runc, and of a user."""

from __future__ import annotations

import json

from tests.engines.conftest import USER
from tests.runtime.test_devices import assert_reaches as assert_all_reaches
from tests.runtime.test_devices import reach as reach_all

ONE = ("--annotation", "io.oci-gpu-hook.count=1", "--annotation", "io.oci-gpu-hook.exclusive=true")


def reach(simulated) -> list[str]:
    """Ask the probe to open every GPU; Podman's containers may make no nodes."""
    return reach_all(simulated, user_namespace=True)


def assert_reaches(seen: dict, simulated, indices: tuple[int, ...]) -> None:
    assert_all_reaches(seen, simulated, indices, own_nodes=False)


def test_the_environment_asks(podman, simulated):
    probe = (*reach(simulated), "dlopen=libcuda.so.1")
    seen = podman.run("-e", "NVIDIA_VISIBLE_DEVICES=1", probe=probe).seen()
    assert_reaches(seen, simulated, (1,))
    assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")


def test_a_container_that_asks_for_nothing_gets_nothing(podman):
    seen = podman.run(probe=("list=/dev",)).seen()
    assert not [name for name in seen["list=/dev"] if name.startswith("nvidia")]


def test_podman_4_ignores_the_option_gpus(podman):
    """What docs/engines.md says of it. Later versions read CDI specifications for it."""
    if not podman.engines.run("podman", "--version").stdout.startswith("podman version 4."):
        return
    seen = podman.run("--gpus", "all", probe=("list=/dev",)).seen()
    assert not [name for name in seen["list=/dev"] if name.startswith("nvidia")]


def test_annotations_ask_and_two_at_once_share_nothing(podman, simulated):
    containers = [podman.detached(*ONE), podman.detached(*ONE)]
    given = []
    for container in containers:
        seen = podman.exec(container, *reach(simulated))
        (index,) = (gpu.index for gpu in simulated.gpus() if seen[f"open={gpu.node}"] == "ENXIO")
        assert_reaches(seen, simulated, (index,))
        given.append(index)
    assert sorted(given) == [0, 1]
    third = podman.run(*ONE, args=("/bin/true",))
    assert third.status != 0
    if podman.runtime == "runc":  # crun 1.8 does not show what a hook says
        assert "oci-gpu-hook: error: " in third.stderr
    podman("rm", "-f", "-t", "0", containers[0])
    assert podman.run(*ONE, args=("/bin/true",)).status == 0


def test_stop_start_and_restart(podman, simulated):
    container = podman.detached("-e", "NVIDIA_VISIBLE_DEVICES=0")
    for step in ((), ("restart", "-t", "0"), ("stop", "-t", "0"), ("start",)):
        if step:
            podman(*step, container)
        if step[:1] != ("stop",):
            assert_reaches(podman.exec(container, *reach(simulated)), simulated, (0,))
    podman("stop", "-t", "0", container)
    assert podman.engines.leases() == []
    changes = json.loads(podman("diff", "--format", "json", container).stdout)
    touched = [path for paths in changes.values() if paths for path in paths]
    assert [path for path in touched if "nvidia" in path or "libcuda" in path] == []


def test_a_user_gets_gpus_without_any_right(user_podman, simulated):
    probe = (*reach(simulated), "dlopen=libcuda.so.1")
    seen = user_podman.run("-e", "NVIDIA_VISIBLE_DEVICES=1", probe=probe).seen()
    assert_reaches(seen, simulated, (1,))
    assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")


def test_a_user_s_state_is_the_user_s(user_podman, simulated):
    container = user_podman.detached(*ONE)
    directory = user_podman.engines.path(f"/run/user/{USER}/oci-gpu-hook")
    (lease,) = json.loads((directory / "leases.json").read_bytes())["leases"]
    assert lease["container"] == container
    assert directory.stat().st_uid == USER
    user_podman.detached(*ONE)
    assert user_podman.run(*ONE, args=("/bin/true",)).status != 0
    user_podman("rm", "-fa", "-t", "0")
    assert user_podman.run(*ONE, args=("/bin/true",)).status == 0
    assert not list((directory / "containers").glob("*.json"))
