"""GPUs of AMD and Intel, of which the kernel tells and no CDI specification: looked at from inside, both doors."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.runtime.fixtures import oci_gpu
from tests.runtime.simulated import SimulatedHost
from tests.runtime.vendors import opens

AMD, INTEL, NVIDIA = "amd.com/gpu", "intel.com/gpu", "nvidia.com/gpu"


@dataclass(frozen=True)
class Others:
    """A simulated host, and the nodes of its GPUs by vendor, read back from /sys."""

    host: SimulatedHost

    @property
    def config(self) -> Path:
        return self.host.config

    def nodes(self, kind: str) -> list[list[str]]:
        """Return the nodes of each GPU below /dev."""
        shown = oci_gpu("--config", self.config, "info", "--json")
        devices = [device for device in json.loads(shown)["devices"] if device["kind"] == kind]
        return [[path.removeprefix("/dev/") for path in device["nodes"]] for device in devices]

    def leases(self) -> list[list[str]]:
        return [lease["gpus"] for lease in json.loads(oci_gpu("--config", self.config, "leases", "--json"))]


def simulated_host(directory, *options):
    oci_gpu("simulate", directory, *options)
    return Others(SimulatedHost(directory))


@pytest.fixture(scope="module")
def amd(machine):
    """Two GPUs of AMD's, in two parts each."""
    return simulated_host(machine.work / "amd", "--platform", "amd", "--gpus", "2", "--partitions", "2")


@pytest.fixture(scope="module")
def intel(machine):
    return simulated_host(machine.work / "intel", "--platform", "intel", "--gpus", "2")


@pytest.fixture(scope="module")
def mixed(machine):
    return simulated_host(machine.work / "mixed", "--platform", "nvidia,amd,intel", "--gpus", "2")


@pytest.fixture
def behind(front, configured):
    """Have oci-gpu-runtime read the configuration of a host."""
    path = front.host.path("/etc/oci-gpu-hook/config.toml")

    def use(others, more=""):
        path.write_text(others.config.read_text() + more)
        return front

    return use


def flat(groups: list[list[str]]) -> list[str]:
    return [node for group in groups for node in group]


def seen_of(seen, *groups):
    """Return what the probe saw of each group of nodes: the words for each."""
    return [{seen[probe] for probe in opens(*nodes)} for nodes in groups]


@pytest.mark.parametrize("user_namespace", [False, True], ids=["root", "user-namespace"])
def test_amds_hook_gives_what_was_asked_for_and_nothing_else(runtime, make_bundle, amd, user_namespace):
    first, second, *others = amd.nodes(AMD)
    probes = [*opens("kfd", *first, *second, *flat(others)), "list=/dev/dri", "list=/dev/dri/by-path"]
    bundle = make_bundle(
        *probes, env=("AMD_VISIBLE_DEVICES=0",), config=amd.config, user_namespace=user_namespace
    )  # fmt: skip
    done = runtime.run(bundle)
    seen = done.seen()
    # The host's nodes are of mode 0660: they are let through, and to open them a user namespace's root needs the group.
    granted = {"EACCES"} if user_namespace else {"ENXIO"}
    assert seen_of(seen, ["kfd"], first, second, flat(others)) == [granted, granted, {"ENOENT"}, {"ENOENT"}]
    assert set(seen["list=/dev/dri"]) == {*(Path(path).name for path in first), "by-path"}
    assert sorted(seen["list=/dev/dri/by-path"]) == ["pci-0010:05:00.0-card", "pci-0010:05:00.0-render"]
    assert amd.leases() == []


def test_others_nodes_are_refused_by_the_cgroup_too(runtime, make_bundle, amd):
    """A node of a number that was not granted: made by the image, it opens nothing."""
    first, second, *_ = amd.nodes(AMD)
    bundle = make_bundle(*opens(*first, *second), env=("AMD_VISIBLE_DEVICES=0",), config=amd.config)
    for path in second:
        host = amd.host.dev / path
        made = bundle.rootfs / "dev" / path
        made.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--archive", host, made], check=True)
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["destination"] != "/dev"]
    seen = runtime.run(bundle).seen()
    assert seen_of(seen, first, second) == [{"ENXIO"}, {"EPERM"}]


@pytest.mark.parametrize(
    ("env", "granted"),
    [
        (("AMD_VISIBLE_DEVICES=all",), [0, 1, 2, 3]),
        (("AMD_VISIBLE_DEVICES=1-2",), [1, 2]),
        (("OCI_GPU_DEVICES=amd.com/gpu=3",), [3]),
        (("OCI_GPU_COUNT=2",), [0, 1]),
        (("OCI_GPU_KIND=amd.com/gpu", "OCI_GPU_COUNT=1", "OCI_GPU_MEMORY=96GiB"), [0]),
        (("AMD_VISIBLE_DEVICES=all", "OCI_GPU_COUNT=3"), [0, 1, 2]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_amds_gpus_through_the_runtime(plain_bundle, behind, amd, env, granted):
    groups = amd.nodes(AMD)
    seen = behind(amd).run(plain_bundle(*opens("kfd", *flat(groups)), env=env)).seen()
    expected = [{"ENXIO"} if index in granted else {"ENOENT"} for index in range(len(groups))]
    assert seen_of(seen, ["kfd"], *groups) == [{"ENXIO"}, *expected]


def test_a_gpu_by_its_unique_id_is_all_its_parts(plain_bundle, behind, amd):
    front = behind(amd)
    topology = Path(amd.host.settings()["driver"]["sys-root"]) / "class/kfd/kfd/topology/nodes/4/properties"
    (unique,) = [line.split()[1] for line in topology.read_text().splitlines() if line.startswith("unique_id ")]
    groups = amd.nodes(AMD)
    seen = front.run(plain_bundle(*opens(*flat(groups)), env=(f"AMD_VISIBLE_DEVICES={int(unique):X}",))).seen()
    assert seen_of(seen, *groups) == [{"ENOENT"}, {"ENOENT"}, {"ENXIO"}, {"ENXIO"}]


def test_leases_hold_for_names_counts_and_parts(plain_bundle, behind, amd):
    front = behind(amd)
    alone = ("OCI_GPU_EXCLUSIVE=1",)
    sleep = ("/bin/sleep", "60")
    with front.started(plain_bundle(name="one", args=sleep, env=("AMD_VISIBLE_DEVICES=1", *alone))) as one:
        ((held,),) = amd.leases()
        assert held.startswith("amd.com/gpu=0x")
        assert held.endswith(":1")
        refused = front.run(plain_bundle(name="two", args=sleep, env=("AMD_VISIBLE_DEVICES=0-1",))).stderr
        assert f"container '{one.id}' holds it exclusively" in refused
        groups = amd.nodes(AMD)
        seen = front.run(plain_bundle(*opens(*flat(groups)), name="three", env=("OCI_GPU_COUNT=3", *alone))).seen()
        assert seen_of(seen, *groups) == [{"ENXIO"}, {"ENOENT"}, {"ENXIO"}, {"ENXIO"}]
        refused = front.run(plain_bundle(name="four", args=sleep, env=("OCI_GPU_COUNT=4", *alone))).stderr
        assert "3 of 4 available" in refused
    assert amd.leases() == []


@pytest.mark.parametrize("name", ["0", "0011-05-00-0-0x56c0", "0011:05:00.0"])
def test_intels_gpus(plain_bundle, behind, intel, name):
    first, second = intel.nodes(INTEL)
    probes = [*opens(*first, *second), "list=/dev/dri/by-path"]
    seen = behind(intel).run(plain_bundle(*probes, env=(f"OCI_GPU_DEVICES=intel.com/gpu={name}",))).seen()
    assert seen_of(seen, first, second) == [{"ENXIO"}, {"ENOENT"}]
    assert sorted(seen["list=/dev/dri/by-path"]) == ["pci-0011:05:00.0-card", "pci-0011:05:00.0-render"]


def test_intels_gpus_by_count_and_by_memory(plain_bundle, behind, intel):
    first, second = intel.nodes(INTEL)
    seen = behind(intel).run(plain_bundle(*opens(*first, *second), env=("OCI_GPU_COUNT=1",))).seen()
    assert seen_of(seen, first, second) == [{"ENXIO"}, {"ENOENT"}]
    env = ("OCI_GPU_KIND=intel.com/gpu", "OCI_GPU_COUNT=1", "OCI_GPU_MEMORY=17GiB")
    refused = behind(intel).run(plain_bundle(name="large", args=("/bin/true",), env=env)).stderr
    assert "the largest is intel.com/gpu=0 with 16GiB" in refused


def test_a_mixed_host_gives_each_vendors_to_who_asks_for_them(plain_bundle, behind, mixed):
    front = behind(mixed)
    (amd, _), (intel, _) = mixed.nodes(AMD), mixed.nodes(INTEL)
    probes = opens("nvidia0", "nvidia1", "kfd", *amd, *intel)
    both = ("NVIDIA_VISIBLE_DEVICES=1", "AMD_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility")
    seen = front.run(plain_bundle(*probes, name="both", env=both)).seen()
    assert seen_of(seen, ["nvidia0"], ["nvidia1"], ["kfd"], amd, intel) == [
        {"ENOENT"}, {"ENXIO"}, {"ENXIO"}, {"ENXIO"}, {"ENOENT"},
    ]  # fmt: skip
    open_count = front.run(plain_bundle(name="open", args=("/bin/true",), env=("OCI_GPU_COUNT=1",))).stderr
    assert "this host has GPUs of nvidia.com/gpu, amd.com/gpu, intel.com/gpu; say which by OCI_GPU_KIND" in open_count
    front = behind(mixed, '\n[allocation]\ndefault-kind = "amd.com/gpu"\n')
    seen = front.run(plain_bundle(*probes, name="default", env=("OCI_GPU_COUNT=1",))).seen()
    assert seen_of(seen, ["nvidia0"], ["nvidia1"], ["kfd"], amd, intel) == [
        {"ENOENT"}, {"ENOENT"}, {"ENXIO"}, {"ENXIO"}, {"ENOENT"},
    ]  # fmt: skip


def test_verify_and_repair(runtime, make_bundle, amd):
    def command(*arguments):
        program = Path(sys.executable).with_name("oci-gpu")
        return runtime.host.call(program, "--config", amd.config, *arguments, check=False)

    bundle = make_bundle(args=("/bin/sleep", "60"), env=("OCI_GPU_COUNT=1",), config=amd.config)
    with runtime.started(bundle) as container:
        assert "has what it was given" in command("verify", container.id).stdout
        node = container.path("/dev/kfd")
        node.unlink()
        assert "device '/dev/kfd': is not there" in command("verify", container.id).stdout
        repaired = command("repair", container.id)
        assert repaired.returncode == 0, repaired.stderr
        assert "has what it was given" in command("verify", container.id).stdout


def test_an_image_for_amd_on_a_host_that_has_none_is_refused_in_words(runtime, make_bundle, simulated):
    complaint = runtime.run(make_bundle(args=("/bin/true",), env=("AMD_VISIBLE_DEVICES=all",))).complaint()
    assert "amd.com/gpu=all" in complaint
    assert "the kernel's KFD lists no AMD GPU (/sys/class/kfd)" in complaint


def test_an_image_for_both_gets_what_there_is(runtime, make_bundle, simulated):
    env = ("AMD_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility")
    seen = runtime.run(make_bundle(*opens("nvidia0", "nvidia1", "kfd"), env=env)).seen()
    assert seen_of(seen, ["nvidia0"], ["nvidia1"], ["kfd"]) == [{"ENXIO"}, {"ENOENT"}, {"ENOENT"}]


def test_a_container_that_asks_for_no_gpu_is_not_touched(runtime, make_bundle, amd):
    seen = runtime.run(make_bundle("list=/dev", env=("AMD_VISIBLE_DEVICES=none",), config=amd.config)).seen()
    assert not {"kfd", "dri"}.intersection(seen["list=/dev"])


def test_a_storm_on_a_mixed_host_doubles_no_lease(runc_v2, make_bundle, mixed):
    """Containers of both vendors at once, each with one GPU of its own, and as many again that have to wait."""
    record = mixed.host.state_dir / "leases.json"
    texts: list[bytes] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            texts.append(record.read_bytes() if record.exists() else b"")

    bundles = []
    for number in range(16):
        kind = (AMD, NVIDIA, INTEL, AMD)[number % 4]
        env = (f"OCI_GPU_KIND={kind}", "OCI_GPU_COUNT=1", "OCI_GPU_EXCLUSIVE=1", "OCI_GPU_WAIT=120s")
        bundles.append(make_bundle(name=f"c{number}", args=("/bin/sleep", "0.2"), env=env, config=mixed.config))
    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(len(bundles)) as pool:
        outcomes = list(pool.map(runc_v2.run, bundles))
    done.set()
    watcher.join()
    assert [outcome.stderr for outcome in outcomes if outcome.status] == []
    seen = set()
    for text in filter(None, set(texts)):
        held = [device["gpu"] for lease in json.loads(text)["leases"] for device in lease["devices"]]
        assert len(held) == len(set(held)), text
        seen.update(held)
    kinds = {uuid.partition("=")[0] if "=" in uuid else NVIDIA for uuid in seen}
    assert kinds == {AMD, NVIDIA, INTEL}
    assert mixed.leases() == []
