"""Device nodes: the granted ones are there and the driver answers, the others are out of reach.

There is no driver behind a simulated node: a node that the device cgroup lets through fails with ENXIO, one that it
refuses with EPERM.
"""

from __future__ import annotations

from typing import Any

import pytest

CONTROL = ("/dev/nvidiactl", "/dev/nvidia-uvm")
KINDS: dict[str, Any] = {
    "plain": {},
    "user": {"user": (1000, 1000)},
    "readonly": {"readonly": True},
    "userns": {"user_namespace": True},
    "userns-readonly": {"user_namespace": True, "readonly": True},
}
SELECTIONS = {
    "all": (0, 1),
    "0": (0,),
    "1": (1,),
    "1,0": (0, 1),
    "0,0": (0,),
    "{uuid}": (1,),
    "{bus}": (1,),
    "{short_bus}": (1,),
    "none": (),
}


def selection(simulated, text: str) -> str:
    second = simulated.gpus()[1]
    return text.format(uuid=second.uuid, bus=second.bus_id, short_bus=second.bus_id[-12:])


def reach(simulated, user_namespace: bool = False) -> list[str]:
    """Ask the probe to open every GPU, by the node it finds and, where it may, by one of its own making."""
    asked = ["list=/dev"]
    for gpu in simulated.gpus():
        asked += [f"open={gpu.node}"]
        if not user_namespace:
            asked += [f"mknod=/dev/mine{gpu.minor}:195:{gpu.minor}", f"open=/dev/mine{gpu.minor}"]
    return [*asked, *(f"open={node}" for node in CONTROL)]


def assert_reaches(seen: dict, simulated, indices: tuple[int, ...], own_nodes: bool = True) -> None:
    """Check the answers to `reach`: these GPUs and no other."""
    nodes = {name for name in seen["list=/dev"] if name.startswith("nvidia") and name[6:].isdigit()}
    assert nodes == {f"nvidia{simulated.gpus()[index].minor}" for index in indices}
    for gpu in simulated.gpus():
        granted = gpu.index in indices
        assert seen[f"open={gpu.node}"] == ("ENXIO" if granted else "ENOENT")
        if own_nodes:
            assert seen[f"open=/dev/mine{gpu.minor}"] == ("ENXIO" if granted else "EPERM")
    for node in CONTROL:
        assert seen[f"open={node}"] == "ENXIO"


@pytest.mark.parametrize("kind", KINDS)
def test_a_granted_gpu_opens_and_its_neighbour_does_not(runtime, make_bundle, simulated, kind):
    user_namespace = "userns" in kind
    own_nodes = kind in ("plain", "readonly")
    bundle = make_bundle(*reach(simulated, user_namespace), gpus="0", **KINDS[kind])
    assert_reaches(runtime.run(bundle).seen(), simulated, (0,), own_nodes)


@pytest.mark.parametrize("text", SELECTIONS)
def test_selection(runtime, make_bundle, simulated, text):
    bundle = make_bundle(*reach(simulated), gpus=selection(simulated, text))
    assert_reaches(runtime.run(bundle).seen(), simulated, SELECTIONS[text])


def test_annotations_ask_too(runtime, make_bundle, simulated):
    wish = {"io.oci-gpu-hook.devices": "1", "io.oci-gpu-hook.capabilities": "compute,utility"}
    bundle = make_bundle(*reach(simulated), annotations=wish)
    assert_reaches(runtime.run(bundle).seen(), simulated, (1,))


def test_create_runtime_does_what_prestart_does(runtime, make_bundle, simulated):
    bundle = make_bundle(*reach(simulated), gpus="1", stage="createRuntime")
    assert_reaches(runtime.run(bundle).seen(), simulated, (1,))


def test_utility_alone_brings_no_compute_nodes(runtime, make_bundle, simulated):
    bundle = make_bundle(
        "list=/dev",
        "open=/dev/nvidiactl",
        env=("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility"),
    )
    seen = runtime.run(bundle).seen()
    assert seen["open=/dev/nvidiactl"] == "ENXIO"
    assert not {"nvidia-uvm", "nvidia-uvm-tools"} & {*seen["list=/dev"]}


@pytest.mark.parametrize("gpus", [None, "", "void", "0,void"], ids=["unset", "empty", "void", "void-in-a-list"])
def test_no_request_leaves_the_container_as_the_runtime_made_it(runtime, make_bundle, simulated, gpus):
    look = ("list=/dev", "list=/proc/driver", "mountinfo")
    untouched = make_bundle(*look, name="untouched")
    del untouched.config["hooks"]
    bare = runtime.run(untouched).seen()
    result = runtime.run(make_bundle(*look, gpus=gpus, stage="prestart"))
    seen = result.seen()
    assert result.stderr == ""
    assert sorted(seen["list=/dev"]) == sorted(bare["list=/dev"])
    assert seen["list=/proc/driver"] == bare["list=/proc/driver"]
    assert len(seen["mountinfo"].splitlines()) == len(bare["mountinfo"].splitlines())


def test_a_container_that_may_all_still_runs(runtime, make_bundle, simulated):
    everything = ({"allow": True, "access": "rwm"},)
    bundle = make_bundle(*reach(simulated), gpus="0", devices=everything)
    seen = runtime.run(bundle).seen()
    assert seen["open=/dev/nvidia0"] == "ENXIO"
    assert seen["open=/dev/nvidia1"] == "ENOENT"


def test_devices_that_the_runtime_allows_stay_allowed(runtime, make_bundle, simulated):
    basic = ("null", "zero", "full", "random", "urandom", "tty")
    bundle = make_bundle(*(f"stat=/dev/{name}" for name in basic), "open=/dev/null", "open=/dev/zero", gpus="all")
    seen = runtime.run(bundle).seen()
    assert seen["open=/dev/null"] == seen["open=/dev/zero"] == "opened"


def test_exec_into_the_container_finds_the_same_devices(runtime, make_bundle, simulated):
    with runtime.started(make_bundle(args=("/bin/sleep", "60"), gpus="1")) as container:
        seen = container.exec("/probe", *reach(simulated)).seen()
    assert_reaches(seen, simulated, (1,))
