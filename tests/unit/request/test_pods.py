"""Annotations of a pod: the sandbox asks for nothing, and a container's own word goes before its pod's."""

from __future__ import annotations

import json

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.devices.nvidia import settings
from oci_gpu_hook.oci import container as containers
from oci_gpu_hook.request import parse
from oci_gpu_hook.request.prefilter import may_ask
from tests.unit.nvidia.bundles import MOUNTS, config_json, state_json

CONTAINERD = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "app"}
CRIO = {"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.container.name": "app"}
ENGINES = pytest.mark.parametrize("place", [CONTAINERD, CRIO], ids=["containerd", "cri-o"])
VOID = {"NVIDIA_VISIBLE_DEVICES": "void"}


def container(annotations, env=(), mounts=()):
    state = containers.read_state(state_json().encode())
    prefixed = {
        f"io.oci-gpu-hook.{key.removeprefix('.')}" if key.startswith(".") else key: value
        for key, value in annotations.items()
    }
    return containers.parse_config(config_json(env, mounts, prefixed).encode(), state)


def read(annotations, env=(), config=None, mounts=()):
    return parse.read(container(annotations, env, mounts), config or Config())


@pytest.mark.parametrize("key", ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"])
@pytest.mark.parametrize(
    "asks",
    [
        {".count": "1"},
        {".count": "2", ".exclusive": "true"},
        {".devices": "0"},
        {".count": "nonsense"},
        {"cdi.k8s.io/a": "nvidia.com/gpu=0"},
    ],
    ids=json.dumps,
)
def test_a_sandbox_asks_for_nothing(key, asks):
    assert read({key: "sandbox", **asks}, {"NVIDIA_VISIBLE_DEVICES": "all"}).request is None


@ENGINES
def test_a_container_of_a_pod_has_what_the_pod_asks_for(place):
    request = read({**place, ".count": "1", ".exclusive": "true"}).request
    assert (request.count, request.exclusive) == (1, True)


@ENGINES
@pytest.mark.parametrize("value", ["void", "", " void "])
def test_a_container_declines_what_its_pod_asks_for(place, value):
    reading = read({**place, ".count": "1"}, {"NVIDIA_VISIBLE_DEVICES": value})
    assert reading.request is None
    assert any("io.oci-gpu-hook.count='1' is set for the pod and is not read" in text for text in reading.warnings)


def test_outside_of_a_pod_an_annotation_is_the_container_s_own_word():
    assert read({".count": "1"}, VOID).request.count == 1


@ENGINES
def test_mounts_of_a_device_plugin_are_not_the_pod_s(place):
    mounts = [{"source": "/dev/null", "destination": f"{MOUNTS}/0"}]
    config = Config(accept_volume_mounts=True)
    assert read({**place, ".count": "2"}, VOID, config, mounts).request.devices == ("0",)


@ENGINES
@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({".count.app": "2"}, {"count": 2}),
        ({".count.app": "2", ".count": "1"}, {"count": 2}),
        ({".count.app": "2", ".devices": "0,1,2"}, {"count": 2, "devices": ()}),
        ({".devices.app": "0,1", ".count": "1", ".memory": "40GiB"}, {"devices": ("0", "1"), "count": None}),
        ({".count.app": "1", ".memory.app": "40GiB"}, {"count": 1, "memory": 40 << 30}),
        ({".count": "1", ".exclusive.app": "true"}, {"count": 1, "exclusive": True}),
        ({".count": "1", ".exclusive": "true", ".exclusive.app": "false"}, {"exclusive": False}),
        ({".count": "1", ".wait": "5m", ".wait.app": "10s"}, {"wait": 10}),
        (
            {".count": "1", ".capabilities": "all", ".capabilities.app": "utility"},
            {"driver_capabilities": ("utility",)},
        ),
        ({".count": "1", ".count.other": "2", ".devices.sidecar": "0"}, {"count": 1, "devices": ()}),
    ],
    ids=str,
)
def test_annotations_for_one_container(place, annotations, expected):
    reading = read({**place, **annotations})
    assert {name: getattr(reading.request, name) for name in expected} == expected
    assert reading.warnings == ()


@ENGINES
@pytest.mark.parametrize("annotations", [{".count.app": "0"}, {".devices.app": "void"}, {".devices.app": ""}], ids=str)
def test_a_container_is_kept_out_by_an_annotation(place, annotations):
    assert read({**place, ".count": "1", **annotations}).request is None


@ENGINES
def test_an_annotation_for_the_container_goes_before_its_variable(place):
    assert read({**place, ".count.app": "1"}, VOID).request.count == 1


@ENGINES
def test_an_annotation_for_another_container_asks_for_nothing(place):
    reading = read({**place, ".count.other": "1"})
    assert (reading.request, reading.warnings) == (None, ())


def test_a_name_says_nothing_where_no_pod_gives_names():
    (warning,) = read({".count.app": "1"}).warnings
    assert warning == (
        "the annotation 'io.oci-gpu-hook.count.app' is not read: it is for a container of a pod by its name"
    )


@ENGINES
def test_a_complaint_names_the_annotation_that_is_wrong(place):
    with pytest.raises(InvalidInput, match=r"io\.oci-gpu-hook\.count\.app='x'"):
        read({**place, ".count.app": "x"})


@ENGINES
@pytest.mark.parametrize("name", ["volume", "cuda-compat"])
def test_other_settings_of_one_container(place, name):
    asks = container({**place, f".{name}": "of the pod", f".{name}.app": "its own"})
    assert settings.said(asks, name) == (f"io.oci-gpu-hook.{name}.app", "its own")
    assert settings.by_annotation(asks, name)[1] == "its own"


@ENGINES
@pytest.mark.parametrize(
    "name", ["devices", "count", "memory", "exclusive", "wait", "capabilities", "volume", "cuda-compat"]
)
def test_the_pre_filter_knows_the_form_for_one_container(place, name):
    document = config_json(annotations={**place, f"io.oci-gpu-hook.{name}.app": "1"}).encode()
    assert may_ask(document, b"{}")
