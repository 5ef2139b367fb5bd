"""Containers that are given devices by our own CDI specification: what they see, and what they leave."""

from __future__ import annotations

import json
import os

import pytest

from tests.runtime import cdi_engine
from tests.runtime.bundle import FIRST_ID
from tests.runtime.fixtures import oci_gpu
from tests.runtime.test_devices import KINDS, assert_reaches, reach

LIBRARY = "dlopen=libcuda.so.1"


@pytest.fixture(scope="session")
def specification(simulated, hook):
    """The specification of the simulated host."""
    arguments = ("cdi", "generate", "--format", "json", "--hook-path", hook)
    return json.loads(oci_gpu("--config", simulated.config, *arguments))


@pytest.fixture
def cdi_bundle(make_bundle, specification):
    """Make bundles as an engine with CDI does; no hook of ours is registered otherwise."""

    def make(*probe, devices=("0",), **options):
        bundle = make_bundle(*probe, gpus=None, **options)
        bundle.config.pop("hooks", None)
        cdi_engine.apply(specification, devices, bundle.config)
        return bundle

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_granted_gpu_opens_and_its_neighbour_does_not(runtime, cdi_bundle, simulated, kind):
    user_namespace = "userns" in kind
    bundle = cdi_bundle(*reach(simulated, user_namespace), LIBRARY, **KINDS[kind])
    seen = runtime.run(bundle).seen()
    assert_reaches(seen, simulated, (0,), own_nodes=kind in ("plain", "readonly"))
    assert seen[LIBRARY].endswith("/libcuda.so.1")


@pytest.mark.parametrize("name", ["index", "uuid", "all", "two"])
def test_devices_by_their_names(runtime, cdi_bundle, simulated, name):
    second = simulated.gpus()[1]
    names = {"index": ("1",), "uuid": (second.uuid,), "all": ("all",), "two": ("0", "1")}[name]
    granted = (0, 1) if name in ("all", "two") else (1,)
    assert_reaches(runtime.run(cdi_bundle(*reach(simulated), devices=names)).seen(), simulated, granted)


@pytest.mark.parametrize("image", ["debian", "rhel", "no-cache"])
def test_the_image_s_own_loader_finds_the_libraries(runtime, cdi_bundle, image):
    seen = runtime.run(cdi_bundle(LIBRARY, "dlopen=libnvidia-ml.so.1", image=image)).seen()
    assert {os.path.basename(path) for path in seen.values()} == {"libcuda.so.1", "libnvidia-ml.so.1"}


def test_only_the_granted_gpu_is_in_proc(runtime, cdi_bundle, simulated):
    first = simulated.gpus()[0]
    seen = runtime.run(cdi_bundle("list=/proc/driver/nvidia/gpus", "read=/proc/driver/nvidia/params")).seen()
    (name,) = seen["list=/proc/driver/nvidia/gpus"]
    assert name.endswith(first.bus_id[-12:].lower())
    assert "ModifyDeviceFiles: 0" in seen["read=/proc/driver/nvidia/params"]


def test_a_read_only_rootfs_stays_so(runtime, cdi_bundle):
    seen = runtime.run(cdi_bundle("write=/etc/debian_version", readonly=True)).seen()
    assert set(seen.values()) == {"EROFS"}


def test_no_mount_of_the_hook_outlives_the_container(runtime, cdi_bundle):
    bundle = cdi_bundle(LIBRARY)
    cache = bundle.rootfs / "etc/ld.so.cache"
    before = cache.read_bytes()
    runtime.run(bundle).seen()
    assert cache.read_bytes() == before


def test_the_image_s_environment_asks_no_second_tool(specification):
    assert specification["containerEdits"]["env"][1:] == ["NVIDIA_VISIBLE_DEVICES=void"]


def test_what_is_made_is_of_the_containers_root(runtime, cdi_bundle):
    """The hook runs in the container's user namespace, where the host's number of its root may be somebody else's."""
    bundle = cdi_bundle(LIBRARY, user_namespace=True)
    for mapping in (bundle.config["linux"]["uidMappings"], bundle.config["linux"]["gidMappings"]):
        mapping[0]["size"] = 2 * FIRST_ID
    runtime.run(bundle).seen()
    made = [bundle.rootfs / "etc/nvidia", bundle.rootfs / "etc/nvidia/nvidia-application-profiles-rc.d"]
    assert [(os.lstat(path).st_uid, os.lstat(path).st_gid) for path in made] == [(FIRST_ID, FIRST_ID)] * 2
