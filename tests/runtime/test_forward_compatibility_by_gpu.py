"""An image that ships a newer libcuda, on GPUs for which NVIDIA has no forward compatibility: what CUDA then answers.

The compatibility library is the real one of another simulated host, so cuInit tells: 0, or 804 as on real cards.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from tests.runtime import cdi_engine
from tests.runtime.fixtures import oci_gpu
from tests.runtime.simulated import SimulatedHost

NEWER = "590.48.01"
CUDA = "cuinit=libcuda.so.1"
WHERE = "dlopen=libcuda.so.1"
COMPAT = "/usr/local/cuda/compat/"
NOT_SUPPORTED = "804"


@pytest.fixture(scope="module", params=["RTX-4090", "RTX-A6000", "H100"])
def of_product(request, machine) -> tuple[SimulatedHost, SimulatedHost]:
    """Return a host with two GPUs of a product, and one that has the same GPUs and a newer driver."""
    hosts = []
    for name, options in (("old", ()), ("new", ("--driver-version", NEWER))):
        directory = machine.work / f"{request.param}-{name}"
        oci_gpu("simulate", directory, "--gpus", "2", "--product", request.param, *options)
        hosts.append(SimulatedHost(directory))
    return hosts[0], hosts[1]


def ship(bundle, newer: SimulatedHost) -> None:
    """Put the newer host's libcuda into the image, as the packages cuda-compat-* do."""
    place = bundle.rootfs / "usr/local/cuda/compat"
    place.mkdir(parents=True)
    (library,) = newer.libraries(f"libcuda.so.{NEWER}")
    shutil.copy(library, place)
    (place / "libcuda.so.1").symlink_to(f"libcuda.so.{NEWER}")


def plan_of(bundle, config) -> dict:
    bundle.write()
    return json.loads(oci_gpu("--config", config, "plan", bundle.directory, "--json"))


def test_it_is_used_where_the_gpus_have_it(runtime, make_bundle, of_product):
    host, newer = of_product
    bundle = make_bundle(WHERE, CUDA, gpus="all", config=host.config)
    ship(bundle, newer)
    (decision,) = plan_of(bundle, host.config)["decisions"]
    seen = runtime.run(bundle).seen()
    assert seen[CUDA] == "0"
    consumer = "4090" in host.directory.name
    assert seen[WHERE].startswith(COMPAT) != consumer
    assert ("not used: NVIDIA makes them for no 'NVIDIA GeForce RTX 4090' (GPU 0)" in decision) == consumer


SWITCHES: dict[str, dict[str, Any]] = {
    "annotation": {"annotations": {"io.oci-gpu-hook.cuda-compat": "true"}},
    "variable": {"env": ("OCI_GPU_CUDA_COMPAT=1",)},
    "annotation-over-variable": {
        "annotations": {"io.oci-gpu-hook.cuda-compat": "true"},
        "env": ("OCI_GPU_CUDA_COMPAT=false",),
    },
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_container_may_have_it_in_any_case(runtime, make_bundle, of_product, switch):
    host, newer = of_product
    bundle = make_bundle(WHERE, CUDA, gpus="1", config=host.config, **SWITCHES[switch])
    ship(bundle, newer)
    seen = runtime.run(bundle).seen()
    assert seen[WHERE].startswith(COMPAT)
    assert seen[CUDA] == (NOT_SUPPORTED if "4090" in host.directory.name else "0")


@pytest.mark.parametrize("said", ["false", "0"])
def test_a_container_may_do_without(runtime, make_bundle, of_product, said):
    host, newer = of_product
    bundle = make_bundle(WHERE, CUDA, gpus="all", config=host.config, env=(f"OCI_GPU_CUDA_COMPAT={said}",))
    ship(bundle, newer)
    seen = runtime.run(bundle).seen()
    assert not seen[WHERE].startswith(COMPAT)
    assert seen[CUDA] == "0"


def test_what_is_neither_yes_nor_no_is_refused(runtime, make_bundle, simulated):
    bundle = make_bundle("list=/", gpus="0", env=("OCI_GPU_CUDA_COMPAT=maybe",))
    assert runtime.run(bundle).complaint().startswith("OCI_GPU_CUDA_COMPAT='maybe': is neither true nor false; ")


@pytest.mark.parametrize(("gpus", "used"), [("0", True), ("1", False), ("all", False), ("none", True)])
def test_the_granted_gpus_decide(runtime, make_bundle, simulated, directory, gpus, used):
    host = simulated.copy(directory / "host")
    information = host.proc / "gpus" / host.gpus()[1].bus_id / "information"
    text = information.read_text().replace("NVIDIA H100 80GB HBM3", "NVIDIA GeForce RTX 3090")
    information.chmod(0o644)
    information.write_text(text)
    bundle = make_bundle(WHERE, gpus=gpus, config=host.config)
    newer = SimulatedHost(directory / "newer")
    oci_gpu("simulate", newer.directory, "--driver-version", NEWER)
    ship(bundle, newer)
    assert runtime.run(bundle).seen()[WHERE].startswith(COMPAT) == used


@pytest.mark.parametrize("devices", [("0",), ("all",)])
def test_a_cdi_specification_s_hook_decides_the_same(runtime, make_bundle, hook, of_product, devices):
    host, newer = of_product
    arguments = ("cdi", "generate", "--format", "json", "--hook-path", hook)
    specification = json.loads(oci_gpu("--config", host.config, *arguments))
    bundle = make_bundle(WHERE, config=host.config)
    bundle.config.pop("hooks")
    cdi_engine.apply(specification, devices, bundle.config)
    ship(bundle, newer)
    seen = runtime.run(bundle).seen()
    assert seen[WHERE].startswith(COMPAT) == ("4090" not in host.directory.name)
