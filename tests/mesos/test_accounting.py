"""Which GPUs: by the agent's gpu/nvidia isolator, by what Mesos accounts, or by what the environment names."""

from __future__ import annotations

import json
import os
import time

import pytest

from tests.mesos.test_unified import LIBRARY, NO_IMAGE_ENVIRONMENT, REACH, gpus
from tests.runtime.fixtures import oci_gpu

STALE = "libcuda.so.470.57.02"
SLEEP = {"shell": True, "value": f"/probe {' '.join(REACH)}; echo ready; exec sleep 60"}


def leases(simulated) -> dict[str, tuple[list[str], bool]]:
    """Return who holds which GPUs, and whether alone."""
    found = json.loads(oci_gpu("--config", simulated.config, "leases", "--json"))
    return {lease["container"]: (lease["gpus"], lease["exclusive"]) for lease in found}


def has(running) -> set[str]:
    running.wait_for("ready")
    return gpus({a["do"]: a["value"] for a in map(json.loads, running.stdout().splitlines()[:-1])})


# --- accounted by Mesos alone ---


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
@pytest.mark.parametrize("kind", ["command", "custom"])
@pytest.mark.parametrize("environment", [None, NO_IMAGE_ENVIRONMENT], ids=["cuda", "plain"])
def test_tasks_of_one_gpu_get_one_each_and_give_it_back(mesos, simulated, kind, environment, pid_namespace):
    options = {"image": mesos.image("debian", environment), "kind": kind, "pid_namespace": pid_namespace}
    first = mesos.start(command=SLEEP, gpus=1, **options)
    second = mesos.start(command=SLEEP, gpus=1, **options)
    assert has(first) | has(second) == {"nvidia0", "nvidia1"}
    held = leases(simulated)
    assert [held[running.id][1] for running in (first, second)] == [True, True]
    assert sorted(held[first.id][0] + held[second.id][0]) == sorted(gpu.uuid for gpu in simulated.gpus())

    third = mesos.run(*REACH, gpus=1, environment={"OCI_GPU_WAIT": "0"}, **options)
    assert "0 of " in third.complaint()

    first.kill()
    fourth = mesos.run(*REACH, gpus=1, environment={"OCI_GPU_WAIT": "0"}, **options)
    assert len(gpus(fourth.seen())) == 1
    second.kill()
    assert not {first.id, second.id} & set(leases(simulated))


def test_task_waits_for_a_gpu_that_comes_back_late(mesos):
    first = mesos.start(command=SLEEP, gpus=2)
    has(first)
    second = mesos.start(*REACH, gpus=2, pid_namespace=True)
    time.sleep(1)
    first.kill()
    assert gpus(second.end()[-1].seen()) == {"nvidia0", "nvidia1"}


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
def test_what_is_kept_of_a_container_goes_with_a_later_one(mesos, simulated, pid_namespace):
    first = mesos.start(command=SLEEP, gpus=1, pid_namespace=pid_namespace)
    has(first)
    assert first.id in oci_gpu("--config", simulated.config, "verify")
    first.kill()
    assert mesos.run(*REACH, gpus=1, pid_namespace=pid_namespace).status == 0
    for directory in ("mesos", "containers"):
        assert not [name for name in os.listdir(simulated.state_dir / directory) if first.id in name]


def test_nested_tasks_of_one_gpu_get_one_each(mesos):
    tasks = [{"image": mesos.image(), "gpus": 1, "probe": REACH} for _ in range(2)]
    executor = {"shell": True, "value": "sleep 60"}
    first, second, _ = mesos.start(kind="custom", image="", command=executor, nested=tasks).end()
    # One device cgroup for all of the executor's containers: what one may open another may, too.
    assert [len([n for n in e.seen()["list=/dev"] if n in ("nvidia0", "nvidia1")]) for e in (first, second)] == [1, 1]


@pytest.mark.parametrize(
    ("gpus_given", "environment", "expected"),
    [
        (1, {"NVIDIA_VISIBLE_DEVICES": "1"}, {"nvidia1"}),
        (2, {"NVIDIA_VISIBLE_DEVICES": "1"}, {"nvidia1"}),
        (1, {"NVIDIA_VISIBLE_DEVICES": "none"}, set()),
        (1, {"NVIDIA_VISIBLE_DEVICES": "void"}, set()),
        (2, {"OCI_GPU_COUNT": "2"}, {"nvidia0", "nvidia1"}),
    ],
)
def test_environment_beside_what_is_accounted(mesos, gpus_given, environment, expected):
    assert gpus(mesos.run(*REACH, gpus=gpus_given, environment=environment).seen()) == expected


@pytest.mark.parametrize(
    ("gpus_given", "environment", "complaint"),
    [
        (1, {"NVIDIA_VISIBLE_DEVICES": "0,1"}, "names 2 devices, while Mesos gave the task gpus:1"),
        (1, {"OCI_GPU_COUNT": "2"}, "asks for 2 GPUs, while Mesos gave the task gpus:1"),
        (3, {}, "3"),
        (0.5, {}, "gives the container 0.5 GPUs"),
    ],
)
def test_environment_that_contradicts_what_is_accounted(mesos, gpus_given, environment, complaint):
    assert complaint in mesos.run(*REACH, gpus=gpus_given, environment=environment).complaint()


def test_agent_that_says_nothing_of_resources(mesos):
    seen = mesos.run(*REACH, checkpoint=False, environment={"OCI_GPU_COUNT": "1"}).seen()
    assert len(gpus(seen)) == 1


# --- beside the stock isolator ---


def reach_isolated(ended) -> set[str]:
    """Return the GPUs that can be opened: the isolator puts all nodes into /dev, and only the cgroup tells."""
    seen = ended.seen()
    return {minor for minor in ("0", "1") if seen[f"open=/dev/mine{minor}"] == "ENXIO"}


@pytest.mark.parametrize(
    ("granted", "environment", "expected"),
    [
        ([1], {}, {"1"}),
        ([0, 1], {}, {"0", "1"}),
        ([0, 1], {"NVIDIA_VISIBLE_DEVICES": "1"}, {"0", "1"}),
        ([], {}, set()),
        ([1], {"OCI_GPU_COUNT": "1"}, {"1"}),
    ],
)
def test_isolator_decides(mesos, simulated, granted, environment, expected):
    ended = mesos.run(
        *REACH, "list=/proc/driver/nvidia/gpus", granted=granted, gpus=len(granted), environment=environment
    )
    assert reach_isolated(ended) == expected
    named = environment.get("NVIDIA_VISIBLE_DEVICES")
    shown = [named] if named else sorted(expected)
    buses = [gpu.bus_id for gpu in simulated.gpus() if str(gpu.minor) in shown]
    seen = ended.seen()["list=/proc/driver/nvidia/gpus"]
    assert seen == "ENOENT" if not buses else sorted(seen) == sorted(buses)


@pytest.mark.parametrize(
    ("granted", "environment", "complaint"),
    [
        ([1], {"NVIDIA_VISIBLE_DEVICES": "0"}, "GPU 0: the agent's isolator gpu/nvidia has not given it"),
        ([], {"OCI_GPU_COUNT": "1"}, "1 GPUs: the agent's isolator gpu/nvidia has given this container 0"),
    ],
)
def test_isolator_refuses(mesos, granted, environment, complaint):
    assert complaint in mesos.run(*REACH, granted=granted, environment=environment).complaint()


def test_rules_of_the_hook_are_not_taken_for_the_isolators(mesos):
    """A nested container's rules stand in the executor's cgroup, where those of the isolator would be."""
    tasks = [{"image": mesos.image(), "environment": {"NVIDIA_VISIBLE_DEVICES": n}, "probe": REACH} for n in "01"]
    executor = {"shell": True, "value": "sleep 60"}
    first, second, _ = mesos.start(kind="custom", image="", command=executor, nested=tasks).end()
    assert [sorted({"nvidia0", "nvidia1"} & set(e.seen()["list=/dev"])) for e in (first, second)] == [
        ["nvidia0"],
        ["nvidia1"],
    ]


# --- /usr/local/nvidia ---


@pytest.fixture
def volume(mesos):
    """Return the isolator's copy of a driver that was replaced since the agent started."""
    directory = mesos.directory / "nvidia_470.57.02"
    for name in ("bin", "lib", "lib64"):
        (directory / name).mkdir(parents=True)
    (directory / "lib64" / STALE).write_bytes(b"a library of another time")
    (directory / "lib64/libcuda.so.1").symlink_to(STALE)
    (directory / "bin/nvidia-smi").write_text("#!/bin/sh\nexit 99\n")
    return str(directory)


@pytest.mark.parametrize("environment", [{}, {"OCI_GPU_VOLUME": "true"}], ids=["", "asked"])
@pytest.mark.parametrize("kind", ["command", "custom"])
def test_running_driver_wins_over_the_isolators_copy(mesos, volume, kind, environment):
    places = ("list=/usr/local/nvidia", "list=/usr/local/nvidia/lib64", "dlopen=/usr/local/nvidia/lib64/libcuda.so.1")
    options = {"granted": [0], "gpus": 1, "volume": volume, "kind": kind, "environment": environment}
    seen = mesos.run(LIBRARY, *places, **options).seen()
    assert sorted(seen["list=/usr/local/nvidia"]) == ["bin", "lib64"]  # lib: of 32-bit libraries, not asked for
    assert STALE not in seen["list=/usr/local/nvidia/lib64"]
    assert all(path.endswith("/libcuda.so.1") for path in (seen[LIBRARY], seen[places[2]]))


def test_programs_of_the_running_driver_win_too(mesos, volume):
    seen = mesos.run("stat=/usr/local/nvidia/bin/nvidia-smi", granted=[0], gpus=1, volume=volume).seen()
    assert seen["stat=/usr/local/nvidia/bin/nvidia-smi"] == "l /usr/bin/nvidia-smi"


def test_container_without_gpus_keeps_the_isolators_volume(mesos, volume):
    places = ("list=/usr/local/nvidia/lib64",)
    seen = mesos.run(*places, granted=[], volume=volume, environment={"NVIDIA_VISIBLE_DEVICES": "void"}).seen()
    assert STALE in seen[places[0]]


def test_image_that_looks_for_the_volume_and_has_none(mesos):
    environment = {"LD_LIBRARY_PATH": "/usr/local/nvidia/lib:/usr/local/nvidia/lib64"}
    place = "dlopen=/usr/local/nvidia/lib64/libcuda.so.1"
    assert mesos.run(place, environment=environment).seen()[place].endswith("/libcuda.so.1")


def test_image_with_something_of_its_own_there_keeps_it(mesos):
    rootfs = f"{mesos.directory}/agent/provisioner/containers/*/backends/overlay/rootfses/*"
    before = [{"shell": True, "value": f"cd {rootfs} && mkdir -p usr/local/nvidia && echo > usr/local/nvidia/file"}]
    environment = {"LD_LIBRARY_PATH": "/usr/local/nvidia/lib64"}
    seen = mesos.run("list=/usr/local/nvidia", kind="custom", pre_exec=before, environment=environment).seen()
    assert seen["list=/usr/local/nvidia"] == ["file"]


def test_image_whose_link_there_leads_to_the_kernels_files(mesos):
    """Hidden under a file system of the hook's, /proc would not confine the task any more."""
    rootfs = f"{mesos.directory}/agent/provisioner/containers/*/backends/overlay/rootfses/*"
    before = [{"shell": True, "value": f"cd {rootfs} && mkdir -p usr/local && ln -s /proc usr/local/nvidia"}]
    ended = mesos.run("list=/proc", kind="custom", pre_exec=before)
    assert "leads to the root directory's mount, or the kernel's files" in ended.complaint()
