"""Pods as containerd hands them to oci-gpu-runtime, and CRI-O to the hook.

The pod's annotations are on the sandbox and on each container.
"""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from tests.runtime.fixtures import oci_gpu
from tests.runtime.test_devices import assert_reaches, reach

SANDBOX = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-name": "smi"}
APP = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "app"}
SIDECAR = APP | {"io.kubernetes.cri.container-name": "sidecar"}
PREFIX = "io.oci-gpu-hook."


def leased(simulated) -> list[int]:
    """Return how many devices each lease has."""
    found = simulated.state_dir / "leases.json"
    return [len(lease["devices"]) for lease in json.loads(found.read_text())["leases"]] if found.exists() else []


def assert_has_none(seen: dict) -> None:
    assert not [name for name in seen["list=/dev"] if name.startswith("nvidia")]


@pytest.fixture
def pod(front, plain_bundle, simulated):
    """Start the containers of a pod whose annotations are given; return what each can open, by name."""

    def start(annotations: dict, **containers: tuple[dict, tuple[str, ...]]) -> dict[str, dict]:
        with ExitStack() as stack:
            started = {}
            for name, (place, env) in containers.items():
                bundle = plain_bundle(
                    args=("/bin/sleep", "60"),
                    env=env,
                    name=name,
                    annotations=place | {PREFIX + key: text for key, text in annotations.items()},
                )
                started[name] = stack.enter_context(front.started(bundle))
            seen = {name: each.exec("/probe", *reach(simulated)).seen() for name, each in started.items()}
            seen["leases"] = leased(simulated)
            return seen

    return start


@pytest.mark.parametrize(
    ("annotations", "indices"),
    [
        ({"count": "1"}, (0,)),
        ({"count": "2", "exclusive": "true"}, (0, 1)),
        ({"devices": "0", "exclusive": "true"}, (0,)),
        ({"devices": "1"}, (1,)),
    ],
    ids=json.dumps,
)
def test_the_sandbox_leaves_the_gpus_to_the_pod_s_container(pod, simulated, annotations, indices):
    seen = pod(annotations, sandbox=(SANDBOX, ()), app=(APP, ()))
    assert_has_none(seen["sandbox"])
    assert_reaches(seen["app"], simulated, indices)
    assert seen["leases"] == [len(indices)]


@pytest.mark.parametrize(
    ("annotations", "env"),
    [
        ({"count": "2", "exclusive": "true"}, ("NVIDIA_VISIBLE_DEVICES=void",)),
        ({"count": "2", "exclusive": "true", "count.sidecar": "0"}, ()),
        ({"count.app": "2", "exclusive.app": "true"}, ()),
    ],
    ids=["void", "count of the sidecar", "count of the app"],
)
def test_a_sidecar_gets_no_gpu_where_it_is_not_to_have_one(pod, simulated, annotations, env):
    seen = pod(annotations, sandbox=(SANDBOX, ()), sidecar=(SIDECAR, env), app=(APP, ()))
    assert_has_none(seen["sidecar"])
    assert_reaches(seen["app"], simulated, (0, 1))
    assert seen["leases"] == [2]


def test_a_refusal_names_the_pod_that_holds_the_gpu(front, plain_bundle):
    names = {"io.kubernetes.cri.sandbox-namespace": "team-a", "io.kubernetes.cri.sandbox-name": "trainer-0"}
    asks = {PREFIX + "devices": "0", PREFIX + "exclusive": "true"}
    first = plain_bundle(args=("/bin/sleep", "60"), name="first", annotations=APP | names | asks)
    with front.started(first):
        refused = front.run(plain_bundle(args=("/bin/true",), name="second", annotations=APP | asks))
    assert refused.status != 0
    assert "container 'team-a/trainer-0/app' holds it exclusively" in refused.stderr


def test_each_container_of_a_pod_gets_as_many_as_it_is_said(pod, simulated):
    seen = pod({"count.app": "1", "devices.sidecar": "1"}, sidecar=(SIDECAR, ()), app=(APP, ()))
    assert_reaches(seen["sidecar"], simulated, (1,))
    assert_reaches(seen["app"], simulated, (0,))


def by_cri_o(kind: str, name: str) -> dict[str, str]:
    """Return the names that CRI-O writes into a bundle (its pkg/annotations, internal/factory/container)."""
    return {
        "io.kubernetes.cri-o.ContainerType": kind,
        "io.kubernetes.container.name": name,
        "io.kubernetes.pod.name": "trainer-0",
        "io.kubernetes.pod.namespace": "team-a",
    }


@pytest.mark.parametrize(
    ("annotations", "env", "indices"),
    [
        ({"count": "2", "exclusive": "true"}, ("NVIDIA_VISIBLE_DEVICES=void",), (0, 1)),
        ({"count": "1", "exclusive": "true", "count.sidecar": "0"}, (), (0,)),
        ({"devices.app": "1"}, (), (1,)),
        ({}, (), ()),
    ],
    ids=json.dumps,
)
def test_cri_o_s_pods_by_the_hook(runtime, make_bundle, simulated, annotations, env, indices):
    """CRI-O copies a pod's annotations to each container, for hooks, and calls those of hooks.d."""
    asks = {PREFIX + key: text for key, text in annotations.items()}
    places = {"sandbox": by_cri_o("sandbox", "POD"), "sidecar": by_cri_o("container", "sidecar")}
    places["app"] = by_cri_o("container", "app")
    with ExitStack() as stack:
        started = {}
        for name, place in places.items():
            own = env if name == "sidecar" else ()
            bundle = make_bundle(args=("/bin/sleep", "60"), env=own, name=name, annotations=place | asks)
            started[name] = stack.enter_context(runtime.started(bundle))
        seen = {name: each.exec("/probe", *reach(simulated)).seen() for name, each in started.items()}
        assert_has_none(seen["sandbox"])
        assert_has_none(seen["sidecar"])
        if indices:
            assert_reaches(seen["app"], simulated, indices)
            assert leased(simulated) == [len(indices)]
            assert pods_of(simulated) == ["team-a/trainer-0/app"]
        else:
            assert_has_none(seen["app"])


def pods_of(simulated) -> list[str]:
    """Return the names by which people are shown those who hold GPUs."""
    return [lease["pod"] for lease in json.loads(oci_gpu("--config", simulated.config, "leases", "--json"))]
