"""A step's config.json after Slurm's choice: every other way of asking is silent, and nothing else has changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.devices.model import Device
from oci_gpu_hook.entrypoints.slurm import bundle, namespace
from oci_gpu_hook.oci.container import State, of_document
from oci_gpu_hook.request import parse

GPUS = tuple(Device(kind="nvidia.com/gpu", name=str(n), uuid=f"GPU-{n}", index=n, label=f"GPU {n}") for n in (2, 5))
PART = GPUS[0].replace(uuid="MIG-1", whole="GPU-2", part=0)
WORDS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "variable": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]},
    "old image": {"env": ["CUDA_VERSION=9.0", "NVIDIA_REQUIRE_CUDA=cuda>=9.0"]},
    "count": {"env": ["OCI_GPU_COUNT=8", "OCI_GPU_EXCLUSIVE=true", "OCI_GPU_WAIT=10m"]},
    "annotation": {"annotations": {"io.oci-gpu-hook.count": "8", "io.oci-gpu-hook.exclusive": "true"}},
    "of a pod": {
        "annotations": {
            "io.oci-gpu-hook.devices.one": "all",
            "io.oci-gpu-hook.count": "3",
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": "one",
        }
    },
    "CDI": {"annotations": {"cdi.k8s.io/x": "nvidia.com/gpu=all"}},
    "mounts": {"mounts": [{"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/all"}]},
    "swarm": {"env": ["DOCKER_RESOURCE_GPU=all"]},
}
CONFIG = Config(accept_volume_mounts=True, swarm_resource=("DOCKER_RESOURCE_GPU",))


def made(env=(), annotations=None, mounts=()) -> dict[str, Any]:
    document: dict[str, Any] = {
        "process": {"args": ["x"], "env": ["PATH=/bin", *env]},
        "root": {"path": "/r"},
        "mounts": [*mounts],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "user"}]},
    }
    return document if annotations is None else {**document, "annotations": annotations}


def request(document):
    return parse.parse(of_document(document, State(id="c", pid=0, bundle="/b", root="", annotations={})), CONFIG)


@pytest.mark.parametrize("words", WORDS)
def test_what_was_given_is_what_is_asked_for(words):
    document = made(**WORDS[words])
    bundle.choose(document, GPUS)
    found = request(document)
    assert found
    assert (found.devices, found.count, found.exclusive, found.wait) == (("GPU-2", "GPU-5"), None, False, 0)


@pytest.mark.parametrize("words", WORDS)
def test_who_was_given_nothing_asks_for_nothing(words):
    document = made(**WORDS[words])
    bundle.choose(document, ())
    assert request(document) is None


@pytest.mark.parametrize(("word", "devices"), [("void", None), ("", None), ("none", ())])
def test_a_container_may_ask_for_less(word, devices):
    document = made(env=["NVIDIA_VISIBLE_DEVICES=all", f"NVIDIA_VISIBLE_DEVICES={word}"])
    bundle.choose(document, GPUS)
    found = request(document)
    assert (found and found.devices) == devices


def test_all_else_stays():
    annotations = {"other": "1", "io.oci-gpu-hook.capabilities": "compute", "io.oci-gpu-hook.volume": "true"}
    before = made(env=["CUDA_VISIBLE_DEVICES=4,5", "X=CUDA_VISIBLE_DEVICES=1"], annotations=annotations)
    after = copy.deepcopy(before)
    bundle.choose(after, ())
    assert after == {**before, "annotations": {**annotations, "io.oci-gpu-hook.devices": "void"}}


@pytest.mark.parametrize(("devices", "text"), [(GPUS, "0,1"), (GPUS[:1], "0"), ((PART,), "MIG-1")])
def test_numbers_of_gpus_are_those_of_the_container(devices, text):
    document = made(env=["CUDA_VISIBLE_DEVICES=4,5", "GPU_DEVICE_ORDINAL=4", "ROCR_VISIBLE_DEVICES=4"])
    bundle.choose(document, devices)
    env = ["PATH=/bin", f"CUDA_VISIBLE_DEVICES={text}", f"GPU_DEVICE_ORDINAL={text}", "ROCR_VISIBLE_DEVICES=4"]
    assert document["process"]["env"] == env


def test_ids_are_taken_from_the_bundle():
    document = made()
    document["linux"] |= {"uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}]}
    found = namespace.taken_from(document)
    assert found == namespace.own().replace(uid=((0, 1000, 1),))
    assert document["linux"] == {"namespaces": [{"type": "mount"}]}


@pytest.mark.parametrize(
    "mappings", [5, [{}], [5], [{"containerID": 0, "hostID": -1, "size": 1}], [{"containerID": "0", "hostID": 1}]]
)
def test_ids_that_are_none(mappings):
    document = made()
    document["linux"]["gidMappings"] = mappings
    with pytest.raises(HookError):
        namespace.taken_from(document)
