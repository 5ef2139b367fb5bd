"""GPUs of AMD and Intel that somebody else has put into a container: whoever's hand it was, they count as held."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.fixtures import oci_gpu
from tests.runtime.simulated import SimulatedHost
from tests.runtime.vendors import leases, opens

OCI_GPU = Path(sys.executable).with_name("oci-gpu")
SLEEP = ("/bin/sleep", "60")


@pytest.fixture(scope="module")
def mixed(machine):
    """A host with two GPUs of each vendor."""
    directory = machine.work / "held"
    oci_gpu("simulate", directory, "--platform", "nvidia,amd,intel", "--gpus", "2")
    return SimulatedHost(directory)


def nodes_of(host, kind, index):
    """Return the nodes of a GPU, below /dev, as `info` tells them."""
    devices = json.loads(oci_gpu("--config", host.config, "info", "--json"))["devices"]
    nodes = [device["nodes"] for device in devices if device["kind"] == kind]
    return [path.removeprefix("/dev/") for path in nodes[index]]


def given(bundle, host, names):
    """Put nodes into a bundle as an engine does for --device, and for the devices of a CDI specification."""
    linux = bundle.config["linux"]
    rules = linux.setdefault("resources", {}).setdefault("devices", [])
    for name in names:
        number = os.stat(host.dev / name).st_rdev
        numbers = {"type": "c", "major": os.major(number), "minor": os.minor(number)}
        linux.setdefault("devices", []).append(numbers | {"path": f"/dev/{name}", "fileMode": 0o666})
        rules.append(numbers | {"allow": True, "access": "rw"})
    return bundle


def held(host):
    return sorted(uuid for lease in leases(host) for uuid in lease["gpus"])


@pytest.mark.parametrize(("kind", "shared"), [("amd.com/gpu", ["kfd"]), ("intel.com/gpu", [])])
def test_an_engines_gpus_count_as_held(runtime, make_bundle, mixed, kind, shared):
    nodes = nodes_of(mixed, kind, 1)
    bundle = given(make_bundle(name="engine", args=SLEEP, config=mixed.config), mixed, [*shared, *nodes])
    with runtime.started(bundle) as one:
        (uuid,) = held(mixed)
        assert uuid.startswith(f"{kind}=")
        alone = (f"OCI_GPU_DEVICES={kind}=1", "OCI_GPU_EXCLUSIVE=1")
        done = runtime.run(make_bundle("list=/", name="alone", env=alone, config=mixed.config))
        assert f"container '{one.id}' holds it" in done.stderr
        count = (f"OCI_GPU_KIND={kind}", "OCI_GPU_COUNT=1", "OCI_GPU_EXCLUSIVE=1")
        first = nodes_of(mixed, kind, 0)
        seen = runtime.run(make_bundle(*opens(*first), name="free", env=count, config=mixed.config)).seen()
        assert {seen[probe] for probe in opens(*first)} == {"ENXIO"}
    assert held(mixed) == []


def test_a_gpu_that_another_holds_exclusively_is_not_given_by_an_engine(runc_v2, make_bundle, mixed):
    nodes = nodes_of(mixed, "amd.com/gpu", 0)
    alone = ("AMD_VISIBLE_DEVICES=0", "OCI_GPU_EXCLUSIVE=1")
    with runc_v2.started(make_bundle(name="alone", args=SLEEP, env=alone, config=mixed.config)):
        bundle = given(make_bundle("list=/", name="engine", config=mixed.config), mixed, ["kfd", *nodes])
        done = runc_v2.run(bundle)
        assert done.status
        assert "holds it exclusively" in done.stderr


def test_the_node_of_wsl_counts_as_its_gpus(runtime, make_bundle, machine):
    directory = machine.work / "held-wsl"
    if not directory.exists():
        oci_gpu("simulate", directory, "--platform", "wsl2")
    wsl = SimulatedHost(directory)
    bundle = given(make_bundle(name="engine", args=SLEEP, config=wsl.config), wsl, ["dxg"])
    with runtime.started(bundle) as one:
        (uuid,) = held(wsl)
        assert uuid.startswith("GPU-")
        alone = ("NVIDIA_VISIBLE_DEVICES=all", "OCI_GPU_EXCLUSIVE=1")
        done = runtime.run(make_bundle("list=/", name="alone", env=alone, config=wsl.config))
        assert f"container '{one.id}' holds it" in done.stderr
    assert held(wsl) == []


def test_what_all_gpus_share_is_no_gpu(runc_v2, make_bundle, mixed):
    with runc_v2.started(given(make_bundle(name="kfd", args=SLEEP, config=mixed.config), mixed, ["kfd"])):
        assert held(mixed) == []


def test_a_container_that_asks_for_nvidias_holds_what_it_was_given_of_others_too(runc_v2, make_bundle, mixed):
    nodes = nodes_of(mixed, "intel.com/gpu", 0)
    bundle = given(make_bundle(name="both", args=SLEEP, gpus="0", config=mixed.config), mixed, nodes)
    with runc_v2.started(bundle):
        nvidia, intel = sorted(held(mixed))
        assert nvidia == mixed.gpus()[0].uuid
        assert intel.startswith("intel.com/gpu=")


def run(runtime, host, *words):
    options = ("--runtime-root", runtime.state_dir)
    return runtime.host.call(OCI_GPU, "--config", host.config, words[0], *options, *words[1:], check=False)


def test_attach_says_that_it_gives_nvidias_gpus_only(runc_v2, make_bundle, mixed):
    with runc_v2.started(make_bundle(name="plain", args=SLEEP, config=mixed.config)) as one:
        done = run(runc_v2, mixed, "attach", one.id, "--devices", "amd.com/gpu=0")
        assert done.returncode == 1
        assert (
            "a running container can be given GPUs of nvidia.com/gpu only; start the container with it" in done.stderr
        )
    assert held(mixed) == []


def test_a_gpu_of_amds_is_detached_by_the_name_of_its_lease(runc_v2, make_bundle, mixed):
    first, second = nodes_of(mixed, "amd.com/gpu", 0), nodes_of(mixed, "amd.com/gpu", 1)
    bundle = make_bundle(name="two", args=SLEEP, env=("AMD_VISIBLE_DEVICES=all",), config=mixed.config)
    with runc_v2.started(bundle) as one:
        uuids = held(mixed)
        told = run(runc_v2, mixed, "detach", one.id, "--devices", "1")
        assert f"name it as it is leased: {', '.join(sorted(uuids))}" in told.stderr or "name it as it" in told.stderr
        by_path = {uuid: index for index, uuid in enumerate(lease_order(mixed))}
        going = next(uuid for uuid, index in by_path.items() if index == 1)
        done = run(runc_v2, mixed, "detach", one.id, "--devices", going)
        assert done.returncode == 0, done.stderr
        assert held(mixed) == sorted(set(uuids) - {going})
        assert not any(one.path(f"/dev/{name}").exists() for name in second)
        assert all(stat.S_ISCHR(one.path(f"/dev/{name}").stat().st_mode) for name in ("kfd", *first))
    assert held(mixed) == []


def lease_order(host):
    return [uuid for lease in leases(host) for uuid in lease["gpus"]]


def test_of_several_vendors_all_are_detached_or_none(runc_v2, make_bundle, mixed):
    env = ("AMD_VISIBLE_DEVICES=0", "NVIDIA_VISIBLE_DEVICES=0")
    with runc_v2.started(make_bundle(name="mixed", args=SLEEP, env=env, config=mixed.config)) as one:
        uuids = held(mixed)
        assert len(uuids) == 2
        done = run(runc_v2, mixed, "detach", one.id, "--devices", uuids[0])
        assert "has devices of amd.com/gpu and nvidia.com/gpu, which can only be detached together" in done.stderr
        assert held(mixed) == uuids
        assert subprocess.run(["test", "-e", one.path("/dev/kfd")], check=False).returncode == 0
